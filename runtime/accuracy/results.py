"""From joints to a results file: person scores, OKS NMS, records.

The published figures of COCO, COCO-WholeBody, AIC, CrowdPose and PoseTrack18 use these rules (MMPose 0.x
`TopDownCocoDataset.evaluate`; the HRNet repository's are the same).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..metrics import Dataset
from ..pose.keypoints import person_scores
from .people import People

Float = NDArray[np.float32]
Double = NDArray[np.float64]

OKS_THRESHOLD = 0.9
_EPSILON = np.spacing(1)


def oks_nms(xy: Float, score: Double, area: Float, sigmas: Sequence[float]) -> list[int]:
    """OKS NMS of the people of one image: who is not a duplicate (OKS above 0.9) of someone with a higher score.

    Args:
        xy: `(N, K, 2)`, px of the frame.
        score: `(N,)` of the people; of two equal scores the later comes first.
        area: `(N,)` of the crops, px^2.
        sigmas: K constants of the OKS. All joints count, whatever their score.

    Returns:
        indices, best first.
    """
    points, size = xy.astype(np.float64), area.astype(np.float64)
    squared = ((points[:, None] - points[None]) ** 2).sum(axis=3)
    mean_area = (size[:, None] + size[None]) / 2 + _EPSILON
    variance = (2 * np.asarray(sigmas, np.float64)) ** 2
    alike = np.exp(-squared / variance / mean_area[..., None] / 2).mean(axis=2) > OKS_THRESHOLD
    order = np.argsort(score, kind="stable")[::-1]
    keep: list[int] = []
    gone = np.zeros(len(order), np.bool_)
    for person in order.tolist():
        if not gone[person]:
            keep.append(person)
            gone |= alike[person]
    return keep


def to_results(
    dataset: Dataset, people: People, regions: tuple[Float, Float], xy: Float, score: Float, protocol: str = "legacy"
) -> list[dict[str, Any]]:
    """Records of a results file in COCO's format, duplicates removed where the data set's metric says so.

    Args:
        dataset: whose joints these are.
        people: N people; those of an image need not be adjacent.
        regions: centre and extent `(N, 2)` of their crops, px of the frame.
        xy: `(N, K, 2)`, px of the frame.
        score: `(N, K)`.
        protocol: "legacy" or "v029": whose sigmas decide who is a duplicate. MMPose used those of its evaluation.

    Returns:
        one record per person that is kept: image_id, category_id, keypoints K x [x, y, score] (for COCO-WholeBody in
        the fields of the parts), score, center, scale (units of 200 px).

    Raises:
        InputError: an unknown protocol, or a wrong number of joints.
    """
    if xy.shape[1:] != (len(dataset.keypoints), 2):
        raise InputError(f"{dataset.name} has {len(dataset.keypoints)} joints, the keypoints have the shape {xy.shape}")
    center, extent = regions
    person, area, scale = person_scores(score, people.box_score), extent.prod(axis=1), extent / np.float32(200)
    joints = np.concatenate([xy, score[..., None]], axis=2).astype(np.float64)
    parts = dataset.parts or (("body", "keypoints", 0, len(dataset.keypoints)),)
    members: dict[Any, list[int]] = {}
    for index, image in enumerate(people.image_ids):
        members.setdefault(image, []).append(index)
    records = []
    sigmas = dataset.sigmas_for(protocol)
    for image, group in members.items():
        if dataset.metric.oks_nms:
            group = [group[k] for k in oks_nms(xy[group], person[group], area[group], sigmas)]
        for index in group:
            fields = {field: joints[index, first:last].ravel().tolist() for _, field, first, last in parts}
            region = {"center": center[index].tolist(), "scale": scale[index].tolist()}
            records.append({"image_id": image, "category_id": 1, **fields, "score": float(person[index]), **region})
    return records
