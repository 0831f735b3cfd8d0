"""MPII's PCKh: the share of joints that lie within half a head of their place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...datasets import Dataset
from ...errors import InputError
from .coco_files import Entry, check, numbers, require

GROUPS = {
    "Head": ("head_top",),
    "Shoulder": ("left_shoulder", "right_shoulder"),
    "Elbow": ("left_elbow", "right_elbow"),
    "Wrist": ("left_wrist", "right_wrist"),
    "Hip": ("left_hip", "right_hip"),
    "Knee": ("left_knee", "right_knee"),
    "Ankle": ("left_ankle", "right_ankle"),
}
_HEAD_SIZE = 0.6  # of the diagonal of the head's box
_STRICT = {"legacy": np.arange(0, 0.51, 0.01)[11], "v029": np.arange(0, 0.51, 0.01)[10]}
"""`Mean@0.1` of the published tables is taken at 0.11: they read the wrong place of the list of thresholds."""


def pckh_metrics(
    dataset: Dataset, truth: Mapping[str, ArrayLike], predictions: NDArray[np.floating], protocol: str
) -> dict[str, float]:
    """PCKh by joints, Mean and Mean@0.1 as fractions.

    Args:
        dataset: MPII.
        truth: the arrays of MPII's `mpii_gt_val.mat`: pos_gt_src `(16, 2, N)`, 1-based px, jnt_missing `(16, N)`,
            headboxes_src `(2, 2, N)`, two corners.
        predictions: `(N, 16, 2)`, 0-based px.
        protocol: "legacy" or "v029".

    Raises:
        InputError: arrays that are missing, of the wrong shape, not finite, or not as many as the predictions.
    """
    joints = len(dataset.keypoints)
    count = len(predictions)
    shapes = {"pos_gt_src": (joints, 2, count), "jnt_missing": (joints, count), "headboxes_src": (2, 2, count)}
    arrays = {}
    for name, shape in shapes.items():
        if name not in truth:
            raise InputError(f"the MPII ground truth lacks {name!r}; it has {', '.join(sorted(truth))}")
        arrays[name] = np.asarray(truth[name], np.float64)
        if arrays[name].shape != shape:
            raise InputError(
                f"{name} of the MPII ground truth has the shape {arrays[name].shape}, expected {shape} for "
                f"{count} results: every annotated person has one result"
            )
        if not np.isfinite(arrays[name]).all():
            raise InputError(f"{name} of the MPII ground truth holds {int((~np.isfinite(arrays[name])).sum())} NaN")
    # 1-based like the annotations, in single precision like the predictions of the published evaluations
    points = (predictions.astype(np.float32) + np.float32(1)).astype(np.float64).transpose(1, 2, 0)
    corner, opposite = arrays["headboxes_src"]
    head = _HEAD_SIZE * np.sqrt(((opposite - corner) ** 2).sum(axis=0))
    if not (head > 0).all():
        raise InputError(f"headboxes_src of person {int((head <= 0).argmax())} has no size")
    error = np.sqrt(((points - arrays["pos_gt_src"]) ** 2).sum(axis=1)) / head
    visible = arrays["jnt_missing"] == 0
    seen = visible.sum(axis=1)
    if not seen.all():
        raise InputError(f"no {dataset.keypoints[int(seen.argmin())]} is visible in the MPII ground truth")

    def percent(threshold: float) -> NDArray[np.float64]:
        return np.asarray(100.0 * ((error <= threshold) & visible).sum(axis=1) / seen)

    half, strict = percent(0.5), percent(_STRICT[protocol])
    evaluated = list(dataset.evaluated)
    share = seen[evaluated] / seen[evaluated].sum()
    index = dataset.keypoints.index
    figures = {name: np.mean([half[index(joint)] for joint in group]) for name, group in GROUPS.items()}
    figures["Mean"] = (half[evaluated] * share).sum()
    figures["Mean@0.1"] = (strict.astype(np.float32)[evaluated] * share).sum()
    return {name: float(value) / 100 for name, value in figures.items()}


def predictions_of(dataset: Dataset, results: Any) -> NDArray[np.float64]:
    """`(N, 16, 2)` 0-based px from a results file: records with `keypoints` 16 x [x, y, score].

    They stand in the order of the annotated people, or say by `image_id` (0..N-1) whose they are.

    Raises:
        InputError: a record that does not fit.
    """
    require(results, "results", ("keypoints",))
    records: Sequence[Entry] = results
    points = numbers(records, "results", "keypoints", 3 * len(dataset.keypoints)).reshape(len(records), -1, 3)
    if records and all("image_id" in record for record in records):
        ids = [record["image_id"] for record in records]
        check(
            records,
            "results",
            (not isinstance(i, int) or not 0 <= i < len(ids) for i in ids),
            lambda e: f"is of person {e['image_id']!r}, expected numbers from 0 to {len(ids) - 1}, one each",
        )
        if len(set(ids)) != len(ids):
            raise InputError(f"results: {len(ids) - len(set(ids))} people have more than one record")
        points = points[np.argsort(ids)]
    return points[..., :2]
