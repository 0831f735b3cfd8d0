"""AP of an estimator on annotated images, where the gate of `posert build` is not at hand: in other environments."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np

from ..runtime.accuracy.frames import Frames
from ..runtime.accuracy.results import person_scores
from ..runtime.estimator import PoseEstimator


def keypoint_results(pose: PoseEstimator, frames: Frames) -> list[dict[str, Any]]:
    """Results in COCO's format of everyone labelled, at their annotated boxes."""
    records = {r["id"]: r for r in frames.coco["images"]}
    results: list[dict[str, Any]] = []
    for image, group in groupby(frames.labelled(), key=lambda a: a["image_id"]):
        people = list(group)
        boxes = np.array([[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in people)], np.float64)
        found = pose(frames.load(records[image]), boxes)
        joints = np.concatenate([found.xy, found.score[..., None]], axis=2).astype(np.float64)
        scores = person_scores(found.score, np.ones(len(people)))
        for a, j, score in zip(people, joints, scores, strict=True):
            row = {"image_id": image, "category_id": a.get("category_id", 1)}
            results.append({**row, "keypoints": j.ravel().tolist(), "score": float(score)})
    return results


def part_of(frames: Frames, images: list[dict[str, Any]]) -> Frames:
    """Some of the images, by their records, with their annotations."""
    kept = {r["id"] for r in images}
    annotations = [a for a in frames.coco["annotations"] if a["image_id"] in kept]
    return replace(frames, coco={**frames.coco, "images": images, "annotations": annotations})
