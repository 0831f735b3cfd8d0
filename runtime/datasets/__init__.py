"""The constants of the data sets people train 2D pose on: one file each, found by name.

`dataset("coco")` gives what a pipeline must know about the joints (order, left/right partners, skeleton) and what the
published evaluation of that data set uses (sigmas, metric, area). Adding a data set is adding a file with a `DATASET`,
or installing a package with an entry point "posert.datasets".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from ..errors import InputError
from ..registry import Registry, unknown_name


@cache  # asked once per run of a flip test
def flip_index(joints: int, flip_pairs: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    """For each joint the one that stands for it in a mirror image: its partner, or itself if it has none."""
    index = list(range(joints))
    for left, right in flip_pairs:
        index[left], index[right] = right, left
    return tuple(index)


PROTOCOLS = ("legacy", "v029")
"""`legacy`: what the published tables were made with (MMPose <= 0.10, HRNet repository); `v029`: MMPose 0.29."""


@dataclass(frozen=True)
class Dataset:
    """What one data set means by a person. All indices are 0-based joint numbers, K is `len(keypoints)`.

    Attributes:
        name: the name that commands and bundles use.
        keypoints: K joint names in the order of the heatmaps.
        flip_pairs: (left, right) joints that change places when the image is mirrored; joints in no pair stay.
        skeleton: limbs as pairs of joints, for drawing.
        sigmas: K standard deviations of the OKS, relative to the square root of the person's area (MMPose 0.29).
        legacy_sigmas: the same before MMPose 0.11, where they differed; empty where they did not.
        metric: "oks", "oks_crowd", "oks_parts", "pckh" or "poseval": which evaluation the published figures come from.
        boxes: "annotated", "detections" or "either": whose boxes the published figures come from.
        use_area: whether OKS takes a person's `area` field, or 0.53 * width * height of the box instead.
        detection_threshold: detector boxes with a lower score are left out.
        parts: (part, result field, first joint, last joint + 1), for a data set that is evaluated by parts.
        evaluated: joints that the metric looks at, in its own order; empty means all in order.
    """

    name: str
    keypoints: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    skeleton: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    metric: str
    boxes: str
    legacy_sigmas: tuple[float, ...] = ()
    use_area: bool = True
    detection_threshold: float = 0.0
    parts: tuple[tuple[str, str, int, int], ...] = ()
    evaluated: tuple[int, ...] = ()

    @property
    def flip_index(self) -> tuple[int, ...]:
        """For each joint, the joint whose place it takes in a mirrored image."""
        return flip_index(len(self.keypoints), self.flip_pairs)

    def sigmas_for(self, protocol: str) -> tuple[float, ...]:
        """The sigmas that a protocol evaluates with.

        Raises:
            InputError: for an unknown protocol.
        """
        check_protocol(protocol)
        return self.legacy_sigmas if protocol == "legacy" and self.legacy_sigmas else self.sigmas


def check_protocol(protocol: str) -> None:
    """Raise InputError unless `protocol` is one of PROTOCOLS."""
    if protocol not in PROTOCOLS:
        raise InputError(unknown_name("protocol", protocol, PROTOCOLS))


DATASETS = Registry("dataset", __name__, "DATASET", "posert.datasets", Dataset)


def datasets() -> list[str]:
    """Names of the known data sets, without plug-ins that do not import (`posert doctor` lists those)."""
    return list(DATASETS.specs())


def dataset(name: str) -> Dataset:
    """The constants of one data set.

    Raises:
        CatalogError: an unknown name (the nearest and all known names are listed), or a plug-in that does not import.
    """
    return DATASETS.load(name)
