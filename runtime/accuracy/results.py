"""From joints to a results file: the score of a person, the removal of duplicates, the records.

The rules are those that the published figures of COCO, COCO-WholeBody, AIC, CrowdPose and PoseTrack18 were made with
(MMPose 0.x `TopDownCocoDataset.evaluate`; the HRNet repository's are the same).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets import Dataset
from ..errors import InputError
from ..registry import unknown_name

Float = NDArray[np.float32]
Double = NDArray[np.float64]

SCORE_THRESHOLD = 0.2
OKS_THRESHOLD = 0.9
SOFT_MAXIMUM = 20
_EPSILON = np.spacing(1)


def person_scores(score: NDArray[np.floating], box_score: NDArray[np.floating]) -> Double:
    """Score of N people: the mean of their joint scores above 0.2, or 0, times the score of their box.

    Args:
        score: `(N, K)`.
        box_score: `(N,)`, 1 for annotated boxes.

    Returns:
        `(N,)` float64.
    """
    joints = score.astype(np.float64)  # 0.2 in single precision is above 0.2
    counted = joints > SCORE_THRESHOLD
    mean = np.where(counted, joints, 0).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)
    return np.asarray(mean * box_score.astype(np.float64))


def oks_nms(xy: Float, score: Double, area: Float, sigmas: Sequence[float]) -> list[int]:
    """Which people of one image to keep: the best ones that are not alike (OKS above 0.9) to a better one.

    Args:
        xy: `(N, K, 2)`, px of the frame.
        score: `(N,)` of the people; of two equal ones the later comes first.
        area: `(N,)` of the crops' extents, px^2.
        sigmas: K constants of the similarity. All joints count, seen or not.

    Returns:
        indices, best first.
    """
    order = np.argsort(score, kind="stable")[::-1]
    alike = _similarity(xy, area, sigmas) > OKS_THRESHOLD
    keep: list[int] = []
    gone = np.zeros(len(order), np.bool_)
    for person in order.tolist():
        if not gone[person]:
            keep.append(person)
            gone |= alike[person]
    return keep


def soft_oks_nms(xy: Float, score: Double, area: Float, sigmas: Sequence[float]) -> list[int]:
    """As `oks_nms`, but those that are alike come later instead of going: at most the first 20 are kept.

    A person's score falls by `exp(-OKS^2 / 0.9)` for each better one; this only orders, the scores stay as they are.
    """
    order = np.argsort(score, kind="stable")[::-1]
    left = score[order].astype(np.float64)
    alike = _similarity(xy, area, sigmas)
    keep: list[int] = []
    while len(order) and len(keep) < SOFT_MAXIMUM:
        best, order = int(order[0]), order[1:]
        keep.append(best)
        left = left[1:] * np.exp(-(alike[best, order] ** 2) / OKS_THRESHOLD)
        again = np.argsort(left, kind="stable")[::-1]
        order, left = order[again], left[again]
    return keep


def _similarity(xy: Float, area: Float, sigmas: Sequence[float]) -> Double:
    """OKS of each with each `(N, N)`."""
    points, size = xy.astype(np.float64), area.astype(np.float64)
    squared = ((points[:, None] - points[None]) ** 2).sum(axis=3)
    mean_area = (size[:, None] + size[None]) / 2 + _EPSILON
    variance = (2 * np.asarray(sigmas, np.float64)) ** 2
    return np.asarray(np.exp(-squared / variance / mean_area[..., None] / 2).mean(axis=2))


_NMS = {"hard": oks_nms, "soft": soft_oks_nms, "none": None}


def to_results(
    dataset: Dataset,
    image_ids: Sequence[Any],
    xy: Float,
    score: Float,
    box_score: NDArray[np.floating],
    center: Float,
    extent: Float,
    nms: str = "hard",
    protocol: str = "legacy",
) -> list[dict[str, Any]]:
    """Records of a results file in COCO's format.

    Args:
        dataset: whose joints these are.
        image_ids: N ids; people of an image need not stand together.
        xy: `(N, K, 2)`, px of the frame.
        score: `(N, K)`.
        box_score: `(N,)`.
        center, extent: `(N, 2)` of the crops, px of the frame.
        nms: "hard" (the published figures), "soft" or "none".
        protocol: "legacy" or "v029", whose sigmas tell who is alike: MMPose took those of its evaluation.

    Returns:
        one record per person that is kept: image_id, category_id, keypoints K x [x, y, score] (in the fields of the
        parts for COCO-WholeBody), score, center, scale (units of 200 px).

    Raises:
        InputError: an unknown `nms` or protocol, or a wrong number of joints.
    """
    if nms not in _NMS:
        raise InputError(unknown_name("nms", nms, _NMS))
    if xy.shape[1:] != (len(dataset.keypoints), 2):
        raise InputError(f"{dataset.name} has {len(dataset.keypoints)} joints, the keypoints have the shape {xy.shape}")
    people, area, scale = person_scores(score, box_score), extent.prod(axis=1), extent / np.float32(200)
    joints = np.concatenate([xy, score[..., None]], axis=2).astype(np.float64)
    parts = dataset.parts or (("body", "keypoints", 0, len(dataset.keypoints)),)
    members: dict[Any, list[int]] = {}
    for index, image in enumerate(image_ids):
        members.setdefault(image, []).append(index)
    records = []
    select, sigmas = _NMS[nms], dataset.sigmas_for(protocol)
    for image, group in members.items():
        kept = select(xy[group], people[group], area[group], sigmas) if select else range(len(group))
        for index in (group[k] for k in kept):
            fields = {field: joints[index, first:last].ravel().tolist() for _, field, first, last in parts}
            records.append(
                {
                    "image_id": image,
                    "category_id": 1,
                    **fields,
                    "score": float(people[index]),
                    "center": center[index].tolist(),
                    "scale": scale[index].tolist(),
                }
            )
    return records
