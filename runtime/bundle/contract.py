"""What a network was trained to see and what its output means: everything that pre- and post-processing need.

The contract travels in the bundle, so an edge device never guesses a padding, a colour order or a decode rule.
"""

from __future__ import annotations

import os
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..datasets import datasets
from ..errors import BundleError, ContractError
from ..metrics import flip_index
from ..system.text import check_text
from .contract_file import check_names, read_values
from .schema import check_shape, shape_of


@dataclass(frozen=True)
class Contract:
    """The pre- and post-processing of one checkpoint.

    A bundle may leave out what has a default here, as those of earlier versions do.

    Attributes:
        dataset: name of the data set whose joints these are.
        keypoints: names of the K joints, in the order of the network's channels.
        flip_pairs: pairs of joints (0-based) that swap when the picture is mirrored.
        skeleton: pairs of joints (0-based) to draw as limbs.
        sigmas: K constants of the OKS metric; empty where nobody chose any, as for most faces, hands and animals.
        width, height: the crop that the network takes, px.
        heatmap_width, heatmap_height: cells along x and y of what it gives for a joint: a map, or two vectors (SimCC).
        mean, std: normalisation `(p / 255 - mean) / std` of the channels in `model_color` order.
        model_color: order in which the checkpoint was trained, "RGB" or "BGR".
        color: order in which the bundle's graph takes crops; always "BGR", the order of an OpenCV frame (the
            swap, where there is one, is folded into the first convolution).
        enlarge: factors by which the box becomes wider and higher before it grows to the aspect ratio of the crop.
        padding: factor by which it then grows both ways.
        udp: unbiased data processing (Huang et al., CVPR 2020) of the crop: the box spans W - 1 px of it, from the
            centre of the first to that of the last, instead of W.
        heatmap_udp: the same of the map: the box spans w - 1 cells instead of w. None: as `udp`.
        decode: name of the decode rule, see `posert.runtime.pose.heads`. The rule says which outputs the network has.
            Packages may add rules, so the name is looked up when the rule is used.
        kernel: size of the Gaussian that the rule blurs with, cells, where it blurs.
        kernel_y: of the one along y, where a rule blurs vectors. 0: as `kernel`.
        flip_shift: whether a flip test moves the mirrored heatmap by one cell before it is averaged.

    Raises:
        ContractError: a value is out of range; the message names its field.
    """

    dataset: str
    keypoints: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    skeleton: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    width: int
    height: int
    heatmap_width: int
    heatmap_height: int
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    model_color: str = "RGB"
    color: str = "BGR"
    enlarge: tuple[float, float] = (1.0, 1.0)
    padding: float = 1.25
    udp: bool = False
    heatmap_udp: bool | None = None
    decode: str = "default"
    kernel: int = 11
    kernel_y: int = 0
    flip_shift: bool = True

    def __post_init__(self) -> None:
        """Check every value."""
        try:
            check_shape(vars(self), SHAPE, "contract")
            check_text(vars(self))
            self._check()
        except ValueError as error:
            raise ContractError(f"the contract is not usable: {error}") from error

    @property
    def flip_index(self) -> tuple[int, ...]:
        """For each of the K joints the one that stands for it in a mirror image."""
        return flip_index(len(self.keypoints), self.flip_pairs)

    @property
    def subject(self) -> tuple[str, str]:
        """What one is called whose joints these are, and several: a data set of your own may show animals or hands."""
        return ("person", "people") if self.dataset in datasets() else ("instance", "instances")

    @property
    def map_udp(self) -> bool:
        """Whether the box spans one cell less than the map has: `heatmap_udp`, or what stands for it."""
        return self.udp if self.heatmap_udp is None else self.heatmap_udp

    def to_json(self) -> dict[str, Any]:
        """The contract as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Contract:
        """Read a contract from contract.yaml, contract.json or a .pose bundle.

        YAML files hold the fields by name; `posert contract FILE --json` shows them all. Reading them needs PyYAML.

        Raises:
            ContractError: the file cannot be read, a field is missing, unknown or out of range; the message names it.
            BundleError: the bundle cannot be read.
        """
        return cls.from_values(read_values(Path(path)), str(path))

    @classmethod
    def from_values(cls, values: Any, label: str) -> Contract:
        """A contract from its fields by name, as contract.yaml holds them; `label` is the file, for messages.

        Raises:
            ContractError: a field is missing, unknown or out of range; the message names it and the nearest one.
        """
        known = {f.name: f.default is MISSING for f in fields(cls)}
        try:
            return cls(**check_names(values, known, label))
        except ContractError as error:
            raise ContractError(f"{label}: {str(error).removeprefix(f'{label}: ')}") from error

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Contract:
        """Read a contract back, checking every field: it comes from a file that anybody may have written.

        Raises:
            BundleError: a field is missing, unknown or out of range; the message names it.
        """
        try:
            check_shape(values, SHAPE, "contract")
            return cls(**{name: _plain(value) for name, value in values.items()})
        except ValueError as error:
            raise BundleError(f"the contract is not usable: {error}; rebuild the bundle: posert build") from error
        except ContractError as error:
            raise BundleError(f"{error}; rebuild the bundle: posert build") from error

    def _check(self) -> None:
        k = len(self.keypoints)
        sizes = (self.width, self.height, self.heatmap_width, self.heatmap_height)
        mirrored = [joint for pair in self.flip_pairs for joint in pair]
        checks = {
            "keypoints: 1 to 1000 names": 0 < k <= 1000,
            f"sigmas: one positive number per joint ({len(self.sigmas)} for {k} joints), or none at all": len(
                self.sigmas
            )
            in (0, k)
            and all(s > 0 for s in self.sigmas),
            "flip_pairs, skeleton: pairs of joint indices": all(
                len(p) == 2 and all(0 <= i < k for i in p) for p in (*self.flip_pairs, *self.skeleton)
            ),
            "flip_pairs: no joint twice": len(mirrored) == len(set(mirrored)),
            "sizes: whole numbers from 1 to 4096": all(0 < s <= 4096 for s in sizes),
            "mean, std: three numbers, std above 0": len(self.mean) == len(self.std) == 3
            and all(s > 0 for s in self.std),
            "model_color: RGB or BGR; color: BGR": self.model_color in ("RGB", "BGR") and self.color == "BGR",
            # Below a tenth no network is trained, and crops shrink to nothing.
            "enlarge: two numbers from 0.1 to 10": len(self.enlarge) == 2 and all(0.1 <= e <= 10 for e in self.enlarge),
            "padding: 0.1 to 10": 0.1 <= self.padding <= 10,
            "kernel, kernel_y: odd numbers from 1 to 99": all(
                n % 2 == 1 and 0 < n < 100 for n in (self.kernel, self.kernel_y or self.kernel)
            ),
            "decode: a name of 1 to 100 characters": 0 < len(self.decode) <= 100,
        }
        broken = [text for text, holds in checks.items() if not holds]
        if broken:
            raise ValueError("; ".join(broken))


SHAPE = shape_of(Contract)
"""Of a contract in JSON, for `check_shape`."""


def _plain(value: Any) -> Any:
    """JSON has lists only; the dataclass holds tuples."""
    return tuple(_plain(v) for v in value) if isinstance(value, list | tuple) else value
