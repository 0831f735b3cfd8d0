"""CrowdPose: OKS average precision, also by how crowded an image is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .coco_files import Entry, numbers, require
from .oks import evaluate_oks
from .spec import Dataset, Metric

CROWDING = (("AP (E)", -np.inf, 0.2), ("AP (M)", 0.2, 0.8), ("AP (H)", 0.8, np.inf))
"""Easy, medium and hard images by `crowdIndex`, as the published code splits them; the paper says 0.1 and 0.8."""


def crowdpose_metrics(
    dataset: Dataset, coco: Mapping[str, Any], results: Sequence[Entry], protocol: str = "legacy"
) -> dict[str, float]:
    """AP, AR and the AP of easy, medium and hard images, the latter rounded to four digits like the published figures.

    Both protocols give the same. Raises InputError: a record that does not fit, or an image without `crowdIndex`.
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
        # The plain mean, as published: -1 if such images have nobody to find.
        figures[name] = round(float(scored.curves(weights=weights)[0].mean()), 4)
    return figures


OKS_CROWD = Metric(crowdpose_metrics)
