"""COCO-WholeBody: OKS average precision of body, feet, face and hands, and of all joints together."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .coco_files import Entry
from .oks import OksEvaluation, evaluate_oks
from .spec import Dataset, Metric

__all__ = ["OKS_PARTS", "wholebody_metrics"]

_log = logging.getLogger(__name__)

_BODY, _WHOLE = "body", "wholebody"
_TITLES = {
    "Body": (_BODY,),
    "Foot": ("foot",),
    "Face": ("face",),
    "Hand": ("lefthand", "righthand"),
    "Whole": (_WHOLE,),
}


def wholebody_metrics(
    dataset: Dataset, coco: Mapping[str, Any], results: Sequence[Entry], protocol: str = "legacy"
) -> dict[str, float]:
    """AP and AR of body, foot, face, hand and whole body; both protocols give the same.

    A part is scored with its own joints and the person's area. People without a labelled joint of that part are
    ignored. The hand's figures are the mean of left and right hand. Results are ranked by `foot_score`, `face_score`,
    `lefthand_score`, `righthand_score` and `wholebody_score` where they have these fields, else by `score`; the body
    always by `score` (xtcocotools).

    Raises:
        InputError: a record that does not fit.
    """
    found = {title: [_evaluate(dataset, coco, results, name) for name in names] for title, names in _TITLES.items()}
    for name in (name for names in _TITLES.values() for name in names if name != _BODY):
        lacking = sum(f"{name}_score" not in record for record in results)
        if 0 < lacking < len(results):
            _log.warning("%d of %d results have no %s_score: `score` ranks them", lacking, len(results), name)
    return {
        f"{title} {name}": float(np.mean([one.metrics[name] for one in evaluations]))
        for title, evaluations in found.items()
        for name in ("AP", "AR")
    }


def _evaluate(dataset: Dataset, coco: Mapping[str, Any], results: Sequence[Entry], name: str) -> OksEvaluation:
    parts = [part for part in dataset.parts if name in (_WHOLE, part[0])]
    return evaluate_oks(
        coco,
        results,
        [sigma for _, _, first, last in parts for sigma in dataset.sigmas[first:last]],
        fields=[(field, last - first) for _, field, first, last in parts],
        rules="xtcocotools",
        score_field="" if name == _BODY else f"{name}_score",
    )


OKS_PARTS = Metric(wholebody_metrics)
