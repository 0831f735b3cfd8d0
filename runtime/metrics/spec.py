"""What a data set is, and what computes its figures: the types of a `DATASET` and of its metric."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..registry import unknown_name
from . import coco_files

PROTOCOLS = ("legacy", "v029")
"""`legacy`: the published tables (MMPose <= 0.10, HRNet repository); `v029`: MMPose 0.29."""


@cache  # used in every flip test
def flip_index(joints: int, flip_pairs: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    """For each of K joints, the joint that takes its place in a mirrored image."""
    index = list(range(joints))
    for left, right in flip_pairs:
        index[left], index[right] = right, left
    return tuple(index)


@dataclass(frozen=True)
class Centers:
    """N people who are annotated by a centre and a scale instead of a box.

    Attributes:
        files: N image files.
        center: `(N, 2)` float64, 1-based px of the frame.
        scale: `(N,)` float64, units of 200 px.
    """

    files: tuple[str, ...]
    center: NDArray[np.float64]
    scale: NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """The protocol that the published figures of a data set follow.

    Every function raises InputError for a file or a record that it cannot use.

    Attributes:
        score: `(dataset, annotations, results, protocol)` -> the figures, as fractions. `results` are records of a
            results file, or what `read_results` returned.
        read_annotations: path -> what results are compared with. `images` and `annotations` in COCO's format, unless
            `read_centers` is given.
        read_results: path -> the results, as `score` takes them.
        read_centers: path -> the people to estimate and the file to pass to `read_annotations`, for a data set that
            annotates people by a centre and a scale. None: people are annotated by boxes.
        tracking: `(dataset, annotations, results)` -> figures of identities, empty where there are none; None: the
            protocol has none.
        oks_nms: whether duplicate people are removed before scoring. If not, every annotated person has one result.
    """

    score: Callable[[Dataset, Any, Any, str], dict[str, float]]
    read_annotations: Callable[[Path], Any] = coco_files.read_annotations
    read_results: Callable[[Path], Any] = coco_files.read_results
    read_centers: Callable[[Path], tuple[Centers, Path]] | None = None
    tracking: Callable[[Dataset, Any, Any], dict[str, float]] | None = None
    oks_nms: bool = True


@dataclass(frozen=True)
class Dataset:
    """The joints of one data set and how its published figures are computed. Joints are numbered from 0.

    Attributes:
        name: name in commands and bundles.
        keypoints: K joint names, in the order of the network's channels.
        flip_pairs: (left, right) joints that swap when the image is mirrored; joints in no pair stay.
        skeleton: limbs as pairs of joints, for drawing.
        sigmas: K standard deviations of the OKS, relative to the square root of the person's area (MMPose 0.29).
        metric: the protocol of the published figures.
        boxes: whose boxes the published figures use.
        legacy_sigmas: sigmas before MMPose 0.11; empty if they are the same.
        use_area: whether OKS takes a person's `area` field, or 0.53 * width * height of the box.
        detection_threshold: detected boxes with a lower score are left out.
        parts: (part, field of a record, first joint, last joint + 1), for a data set that is scored by parts.
        evaluated: joints that the metric scores, in the metric's order; empty means all.
    """

    name: str
    keypoints: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    skeleton: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    metric: Metric
    boxes: Literal["annotated", "detections", "either"]
    legacy_sigmas: tuple[float, ...] = ()
    use_area: bool = True
    detection_threshold: float = 0.0
    parts: tuple[tuple[str, str, int, int], ...] = ()
    evaluated: tuple[int, ...] = ()

    @property
    def flip_index(self) -> tuple[int, ...]:
        """For each joint, the joint that takes its place in a mirrored image."""
        return flip_index(len(self.keypoints), self.flip_pairs)

    @property
    def fields(self) -> tuple[tuple[str, int], ...]:
        """(field, joints in it) of a record, in the order of `keypoints`; usually only ("keypoints", K)."""
        if not self.parts:
            return (("keypoints", len(self.keypoints)),)
        return tuple((field, last - first) for _, field, first, last in self.parts)

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
