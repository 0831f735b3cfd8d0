"""The figures of the data sets whose OKS evaluation has several: COCO-WholeBody by parts, CrowdPose by crowding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...datasets import Dataset
from .coco_files import Entry, numbers, require
from .oks import OksEvaluation, evaluate_oks

CROWDING = (("AP (E)", -np.inf, 0.2), ("AP (M)", 0.2, 0.8), ("AP (H)", 0.8, np.inf))
"""Easy, medium and hard images by their `crowdIndex`, as the published code splits them (the paper says 0.1, 0.8)."""


def wholebody_metrics(dataset: Dataset, coco: Mapping[str, Any], results: Sequence[Entry]) -> dict[str, float]:
    """AP and AR of body, foot, face, hand and whole body.

    A part is evaluated by itself, with its own joints and the person's area; people none of whose joints of that part
    are labelled are ignored. The hand's figures are the mean of left and right hand.
    """
    found: dict[str, tuple[OksEvaluation, ...]] = {}
    for title, names in (
        ("Body", ("body",)),
        ("Foot", ("foot",)),
        ("Face", ("face",)),
        ("Hand", ("lefthand", "righthand")),
        ("Whole", ()),
    ):
        groups = [[part for part in dataset.parts if part[0] == name] for name in names] or [list(dataset.parts)]
        found[title] = tuple(
            evaluate_oks(
                coco,
                results,
                [sigma for _, _, first, last in parts for sigma in dataset.sigmas[first:last]],
                fields=[(field, last - first) for _, field, first, last in parts],
                rules="xtcocotools",
            )
            for parts in groups
        )
    return {
        f"{title} {name}": float(np.mean([one.metrics[name] for one in evaluations]))
        for title, evaluations in found.items()
        for name in ("AP", "AR")
    }


def crowdpose_metrics(dataset: Dataset, coco: Mapping[str, Any], results: Sequence[Entry]) -> dict[str, float]:
    """AP, AR and the AP of easy, medium and hard images, rounded to four digits as the published ones are.

    Raises:
        InputError: an image without its `crowdIndex`.
    """
    scored = evaluate_oks(
        coco, results, dataset.sigmas, use_area=False, rules="xtcocotools", count_field="num_keypoints"
    )
    require(coco["images"], "images", ("id", "crowdIndex"))
    crowding = dict(
        zip((i["id"] for i in coco["images"]), numbers(coco["images"], "images", "crowdIndex", 0), strict=True)
    )
    index = np.array([crowding[name] for name in scored.images])
    figures = {name: scored.metrics[name] for name in ("AP", "AP50", "AP75", "AR", "AR50", "AR75")}
    for name, low, high in CROWDING:
        weights = ((index >= low) & (index < high)).astype(np.int64)
        # the mean of everything: -1 if such images have nobody to be found
        figures[name] = round(float(scored.curves(weights=weights)[0].mean()), 4)
    return figures
