"""COCO-WholeBody: OKS average precision of body, feet, face and hands, and of all joints together."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .coco_files import Entry
from .oks import evaluate_oks
from .spec import Dataset, Metric

_log = logging.getLogger(__name__)

_PARTS = {
    "Body": ["body"],
    "Foot": ["foot"],
    "Face": ["face"],
    "Hand": ["lefthand", "righthand"],
    "Whole": ["wholebody"],
}


def wholebody_metrics(
    dataset: Dataset, coco: Mapping[str, Any], results: Sequence[Entry], protocol: str = "legacy"
) -> dict[str, float]:
    """AP and AR of body, foot, face, hand and whole body; both protocols give the same.

    A part is scored with its own joints and the person's area. People without a labelled joint of that part are
    ignored. The hand's figures are the mean of left and right hand. Results are ranked by `foot_score`, `face_score`,
    `lefthand_score`, `righthand_score` and `wholebody_score` where they have these fields, else by `score`; the body
    always by `score` (xtcocotools). Raises InputError: a record that does not fit.
    """
    figures = {}
    for title, names in _PARTS.items():
        found = [_part_metrics(dataset, coco, results, name) for name in names]
        figures.update({f"{title} {kind}": float(np.mean([one[kind] for one in found])) for kind in ("AP", "AR")})
    return figures


def _part_metrics(
    dataset: Dataset, coco: Mapping[str, Any], results: Sequence[Entry], name: str
) -> Mapping[str, float]:
    parts = [part for part in dataset.parts if name in ("wholebody", part[0])]
    score_field = "" if name == "body" else f"{name}_score"
    scored = evaluate_oks(
        coco,
        results,
        [sigma for _, _, first, last in parts for sigma in dataset.sigmas[first:last]],
        fields=[(field, last - first) for _, field, first, last in parts],
        rules="xtcocotools",
        score_field=score_field,
    )
    lacking = sum(score_field not in record for record in results)
    if score_field and 0 < lacking < len(results):
        _log.warning("%d of %d results have no %s: `score` ranks them", lacking, len(results), score_field)
    return scored.metrics


OKS_PARTS = Metric(wholebody_metrics)
