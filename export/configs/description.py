"""What a file says about a network: its contract, its layers as the file names them, and what was assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ...runtime.bundle.contract import Contract
from ...runtime.errors import ConfigError, ContractError
from .fields import plain
from .joints import Joints

COMBINED = ("udp_combined", "udp_heatmap_combined")
"""Decode rules with three channels per joint."""


@dataclass(frozen=True)
class Description:
    """What a file says about a network.

    Attributes:
        source: what the file is, such as "MMPose 1.x config".
        kind: "heatmap", or "simcc" for two vectors per joint.
        fields: the contract's fields but those of the joints.
        joints: the joints of the network's channels; None if the file does not say them.
        network: the `model` of an OpenMMLab config or the `MODEL` of an experiment file, as plain Python values. A
            value that cannot be had without running code is a `values.Unknown`. Empty if the file describes no layers.
        channels: channels of the network's output; None if the file does not say.
        output_keypoints: those of the joints that come out; empty: all.
        flip_test: whether the file asks for a flip test.
        notes: defaults that were taken because the file leaves something out, skipped files, guesses.
    """

    source: str
    kind: str
    fields: Mapping[str, Any]
    joints: Joints | None = None
    network: Mapping[str, Any] = field(default_factory=dict)
    channels: int | None = None
    output_keypoints: tuple[int, ...] = ()
    flip_test: bool = False
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.joints is not None:
            self.with_joints(self.joints)

    @property
    def contract(self) -> Contract | None:
        """The contract, of the joints that come out; None as long as the joints are not known."""
        return None if self.joints is None else self.with_joints(self.joints)

    def with_joints(self, joints: Joints) -> Contract:
        """The contract with the joints of a data set.

        Raises:
            ConfigError: the network has another number of outputs, or the contract is not usable.
        """
        per_joint = 3 if self.fields.get("decode") in COMBINED else 1
        if self.channels is not None and self.channels != per_joint * len(joints.keypoints):
            each = " of three channels each" if per_joint == 3 else ""
            raise ConfigError(
                f"the network of this {self.source} has {self.channels} output channels, and the data set "
                f"{joints.name!r} has {len(joints.keypoints)} joints{each}: they do not belong together. Give the data "
                "set that the network was trained on with --dataset-file"
            )
        if self.output_keypoints:
            joints = joints.select(self.output_keypoints)
        try:
            return Contract(
                dataset=joints.name,
                keypoints=joints.keypoints,
                flip_pairs=joints.flip_pairs,
                skeleton=joints.skeleton,
                sigmas=joints.sigmas,
                **self.fields,
            )
        except ContractError as error:
            raise ConfigError(f"what this {self.source} says is no network that posert runs: {error}") from error

    def joined(self, joints: Joints) -> Description:
        """The same with the joints of a data set file, which replace those of the file; see `with_joints`."""
        note = (
            (f"joints: {joints.name!r} of the data set file, in place of {self.joints.name!r} of this one",)
            if self.joints is not None and self.joints.keypoints != joints.keypoints
            else ()
        )
        return replace(self, joints=joints, notes=(*self.notes, *note, *joints.notes))

    def to_json(self) -> dict[str, Any]:
        """As one JSON document; without joints, `contract` lacks their fields."""
        contract = self.contract
        return {
            "source": self.source,
            "kind": self.kind,
            "contract": plain(self.fields) if contract is None else contract.to_json(),
            "network": plain(self.network),
            "channels": self.channels,
            "output_keypoints": list(self.output_keypoints),
            "flip_test": self.flip_test,
            "notes": list(self.notes),
        }
