"""PCK: the share of labelled joints within a part of the box's longer side (Yang and Ramanan, TPAMI 2013).

It needs no constants of the data set, so it serves joints that nobody has chosen OKS sigmas for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .coco_files import Entry, images_of, joints_of, numbers, require
from .spec import Dataset, Metric

Double = NDArray[np.float64]

THRESHOLD = 0.05
"""Of the box's longer side, as MMPose's PCKAccuracy has it by default."""
_THRESHOLDS = (THRESHOLD, 0.1, 0.2)


@dataclass(frozen=True)
class PckEvaluation:
    """How far the joints of N people lie from their labels.

    Attributes:
        image: `(N,)` index of each person's image.
        distance: `(N, K)` of the longer side of the person's box; NaN where a joint has no label.
    """

    image: NDArray[np.intp]
    distance: Double

    @property
    def metrics(self) -> dict[str, float]:
        """PCK at 0.05, 0.1 and 0.2, as fractions."""
        seen = self.distance[~np.isnan(self.distance)]
        return {f"PCK@{t:g}": float((seen <= t).mean()) if seen.size else -1.0 for t in _THRESHOLDS}

    def within(self) -> Double:
        """For each image how many joints lie within THRESHOLD."""
        return np.bincount(self.image, (self.distance <= THRESHOLD).sum(axis=1)).astype(np.float64)

    def labelled(self) -> Double:
        """For each image how many joints have a label."""
        return np.bincount(self.image, (~np.isnan(self.distance)).sum(axis=1)).astype(np.float64)


def evaluate_pck(joints: Double, box: Double, image: NDArray[np.intp], xy: NDArray[Any]) -> PckEvaluation:
    """Compare the joints of N people with their labels.

    Args:
        joints: `(N, K, 3)`, x and y in px of the frame, and visibility; 0: no label.
        box: `(N, 4)` xyxy px of the frame.
        image: `(N,)` index of each person's image.
        xy: `(N, K, 2)`, px of the frame, of the same people.
    """
    side = (box[:, 2:] - box[:, :2]).max(axis=1)
    distance = np.linalg.norm(xy - joints[..., :2], axis=2) / side[:, None]
    return PckEvaluation(image, np.where(joints[..., 2] > 0, distance, np.nan))


def paired_interval(
    a: PckEvaluation, b: PckEvaluation, resamples: int = 1000, confidence: float = 0.95
) -> tuple[float, float, float]:
    """PCK@0.05 of `a` minus that of `b`, low and high end of its interval by the paired bootstrap over images.

    As `oks.paired_interval`; both evaluations are of the same people.
    """
    lost, labelled = a.within() - b.within(), a.labelled()
    lost, labelled = lost[labelled > 0], labelled[labelled > 0]
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(lost), (resamples, len(lost)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(lost[drawn].sum(axis=1) / labelled[drawn].sum(axis=1), [tail, 1 - tail])
    return float(lost.sum() / labelled.sum()), float(low), float(high)


def _score(dataset: Dataset, coco: Mapping[str, Any], results: Sequence[Entry], protocol: str) -> dict[str, float]:
    """Each annotated person is compared with the result in the image whose joints lie nearest; without one all miss."""
    images = images_of(coco)
    people = [a for a in coco["annotations"] if not a.get("iscrowd") and any(v > 0 for v in a["keypoints"][2::3])]
    if not people:
        raise InputError("the annotations label no joint")
    require(results, "results", ("image_id", "keypoints"))
    image, joints = joints_of(people, "annotations", images, dataset.fields)
    found_in, found = joints_of(results, "results", images, [("keypoints", len(dataset.keypoints))])
    box = numbers(people, "annotations", "bbox", 4)
    xy = np.full((len(people), len(dataset.keypoints), 2), np.inf)
    for index, person in enumerate(joints):
        near = found[found_in == image[index], :, :2]
        if len(near):
            labelled = person[:, 2] > 0
            gap = np.linalg.norm(near[:, labelled] - person[labelled, :2], axis=2).mean(axis=1)
            xy[index] = near[gap.argmin()]
    xyxy = np.concatenate([box[:, :2], box[:, :2] + box[:, 2:]], axis=1)
    return evaluate_pck(joints, xyxy, image, xy).metrics


PCK = Metric(_score, oks_nms=False)
