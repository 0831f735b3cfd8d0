"""The matching of COCO's keypoint protocol: which detection takes which annotated person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .coco_files import Entry, check, check_unique, joints_of, numbers, require

Double = NDArray[np.float64]
Bool = NDArray[np.bool_]

THRESHOLDS = np.linspace(0.5, 0.95, 10)
AREAS = np.array([[0, 1e10], [32**2, 96**2], [96**2, 1e10]])
"""Ranges of person area, px^2: all, medium, large."""
MAX_DETECTIONS = 20
_EPSILON = np.spacing(1)
BOX_AREA = 0.53
"""Share of width * height that stands for a person's area."""


@dataclass(frozen=True)
class Truth:
    """G annotated people, in file order within an image."""

    image: NDArray[np.intp]
    joints: Double  # (G, K, 3)
    box: Double  # (G, 4)
    area: Double  # (G,)
    crowd: Bool  # (G,)
    ignored: Bool  # (A, G)
    countable: Bool  # (G,) a match with this person counts

    @classmethod
    def read(
        cls,
        coco: Mapping[str, Any],
        images: Mapping[Any, int],
        fields: Sequence[tuple[str, int]],
        use_area: bool,
        count_field: str,
        original: bool,
    ) -> Truth:
        entries: Sequence[Entry] = coco["annotations"]
        image, joints = joints_of(entries, "annotations", images, fields)  # first: its message reveals a wrong data set
        needed = ["id", "bbox", *(["area"] if use_area else []), *([count_field] if count_field else [])]
        require(entries, "annotations", needed)
        check_unique([entry["id"] for entry in entries], "annotations")
        box = numbers(entries, "annotations", "bbox", 4)
        area = numbers(entries, "annotations", "area", 0) if use_area else box[:, 2] * box[:, 3] * BOX_AREA
        crowd = np.array([bool(entry.get("iscrowd", 0)) for entry in entries], np.bool_)
        if count_field:
            empty = numbers(entries, "annotations", count_field, 0) == 0
        else:
            empty = (joints[..., 2] > 0).sum(axis=1) == 0
        outside = (area < AREAS[:, :1]) | (area > AREAS[:, 1:])
        # pycocotools marks a match by the person's id, so a match with id 0 is lost
        countable = np.array([not original or entry["id"] != 0 for entry in entries], np.bool_)
        return cls(image, joints, box, area, crowd, outside | crowd | empty, countable)


@dataclass(frozen=True)
class Detections:
    """The D best detections of each image, by image and then by score."""

    image: NDArray[np.intp]
    joints: Double  # (D, K, 3)
    score: Double  # (D,)
    area: Double  # (D,)

    @classmethod
    def read(
        cls,
        results: Sequence[Entry],
        coco: Mapping[str, Any],
        images: Mapping[Any, int],
        fields: Sequence[tuple[str, int]],
        score_field: str,
        drop: bool,
    ) -> tuple[Detections, int]:
        """The detections, and how many had no positive joint score and were dropped.

        They are ranked by `score_field` where they have it, else by `score`.
        """
        require(results, "results", ("category_id", "score"))
        known = {c["id"] for c in coco.get("categories", ()) if "id" in c} or {1}
        check(
            results,
            "results",
            (entry["category_id"] not in known for entry in results),
            lambda e: f"has the category {e['category_id']!r}, the annotations know {sorted(known)}",
        )
        image, joints = joints_of(results, "results", images, fields)
        score, area = numbers(results, "results", "score", 0), _extent(results, joints)
        if any(score_field in entry for entry in results):
            ranked: list[Entry] = [e if score_field in e else {score_field: e["score"]} for e in results]
            score = numbers(ranked, "results", score_field, 0)
        left_out = 0
        if drop:
            keep = (joints[..., 2] > 0).any(axis=1)
            left_out = int((~keep).sum())
            joints, image, area, score = joints[keep], image[keep], area[keep], score[keep]
        order = np.lexsort((-score, image))  # stable: equal scores stay in file order
        first = np.searchsorted(image[order], image[order], side="left")
        order = order[np.arange(len(order)) - first < MAX_DETECTIONS]
        return cls(image[order], joints[order], score[order], area[order]), left_out


def _extent(results: Sequence[Entry], joints: Double) -> Double:
    """Area of the detections: of their `bbox` if they have one, as COCO's loader does, else of the body's joints."""
    if results and "bbox" in results[0]:
        require(results, "results", ("bbox",))
        box = numbers(results, "results", "bbox", 4)
        return np.asarray(box[:, 2] * box[:, 3])
    if results and "keypoints" in results[0]:  # a part has its body's area too
        joints = numbers(results, "results", "keypoints", len(results[0]["keypoints"])).reshape(len(results), -1, 3)
    return np.asarray(np.ptp(joints[..., 0], axis=1) * np.ptp(joints[..., 1], axis=1)) if results else np.zeros(0)


def similarity(person: Double, box: Double, area: float, detections: Double, sigmas: Double) -> Double:
    """OKS of D detections with one person.

    Args:
        person: `(K, 3)` x, y, v; only joints with v > 0 count. If there are none, all joints of the detection do, by
            their distance to the box enlarged by its own size on each side.
        box: `(4,)` x, y, width, height.
        area: px^2.
        detections: `(D, K, 3)`.
        sigmas: `(K,)`.

    Returns:
        `(D,)` in 0..1.
    """
    variance = (sigmas * 2) ** 2
    labelled = person[:, 2] > 0
    x, y = detections[..., 0], detections[..., 1]
    if labelled.any():
        dx, dy = x - person[:, 0], y - person[:, 1]
    else:
        labelled = np.ones(len(person), np.bool_)
        dx = np.maximum(0, box[0] - box[2] - x) + np.maximum(0, x - (box[0] + box[2] * 2))
        dy = np.maximum(0, box[1] - box[3] - y) + np.maximum(0, y - (box[1] + box[3] * 2))
    error = (dx**2 + dy**2) / variance / (area + _EPSILON) / 2
    # contiguous, so that the joints are added in the same order as in COCO's code
    return np.asarray(np.exp(-np.ascontiguousarray(error[:, labelled])).sum(axis=1) / labelled.sum())


def match(truth: Truth, found: Detections, sigmas: Double) -> tuple[Bool, Bool]:
    """Which detections take a person and which are ignored, `(A, T, D)` each."""
    areas, thresholds = len(AREAS), len(THRESHOLDS)
    matched = np.zeros((areas, thresholds, len(found.score)), np.bool_)
    ignored = np.zeros_like(matched)
    by_image = np.argsort(truth.image, kind="stable")
    people = np.split(by_image, np.flatnonzero(np.diff(truth.image[by_image])) + 1) if len(by_image) else []
    needed = np.minimum(THRESHOLDS, 1 - 1e-10)[:, None]
    a, t = np.ogrid[:areas, :thresholds]
    for group in people:
        first, last = np.searchsorted(found.image, truth.image[group[0]] + np.array([0, 1]))
        if first == last:
            continue
        alike = np.stack(
            [similarity(truth.joints[g], truth.box[g], truth.area[g], found.joints[first:last], sigmas) for g in group],
            axis=1,
        )
        # Rank of each person: those that count above those that are ignored, then by OKS, then the later one.
        count = len(group)
        ignore = truth.ignored[:, group]
        rank = np.empty(alike.shape, np.intp)
        np.put_along_axis(rank, alike.argsort(axis=1, kind="stable"), np.arange(count)[None], axis=1)
        free = np.ones((areas, thresholds, count), np.bool_)
        for d in np.flatnonzero(alike.max(axis=1) >= needed[0, 0]):
            value = np.where(free & (alike[d] >= needed), rank[d] + count * ~ignore[:, None], -1)
            best = value.argmax(axis=2)
            hit = value[a, t, best] >= 0
            free[a, t, best] &= ~hit | truth.crowd[group[best]]
            matched[..., first + d] = hit & truth.countable[group[best]]
            ignored[..., first + d] = hit & ignore[a, best]
    outside = (found.area < AREAS[:, :1]) | (found.area > AREAS[:, 1:])
    ignored |= ~matched & outside[:, None]
    return matched, ignored
