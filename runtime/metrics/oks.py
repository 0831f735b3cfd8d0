"""Average precision by object keypoint similarity (OKS): COCO's protocol and its relatives.

Matching is done once per evaluation and kept per image, so that a subset of the images, or a random draw of them
(`paired_interval`), is scored without matching again.

Two sets of rules are in use. "pycocotools" is the original. "xtcocotools" is MMPose's: it drops detections without a
positive joint score, counts labelled joints instead of believing `num_keypoints`, and accepts an annotation whose id is
0. On COCO's own data both give the same figures.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .coco_files import Entry, images_of
from .oks_matching import AREAS, THRESHOLDS, Detections, Truth, match
from .spec import Dataset, Metric

_log = logging.getLogger(__name__)

Double = NDArray[np.float64]
Bool = NDArray[np.bool_]
Rules = Literal["pycocotools", "xtcocotools"]

RECALLS = np.linspace(0, 1, 101)
_EPSILON = np.spacing(1)


@dataclass(frozen=True)
class OksEvaluation:
    """The matched detections of I images, from which every figure is computed.

    D detections by descending score, A = 3 ranges of area (all, medium, large), T = 10 thresholds of OKS.

    Attributes:
        images: ids of the I images.
        image: `(D,)` index of each detection's image.
        score: `(D,)`, descending.
        matched: `(A, T, D)` whether the detection took a person.
        ignored: `(A, T, D)` whether it counts neither as right nor as wrong.
        positives: `(A, I)` number of people to find.
        left_out: number of detections that the rules dropped because no joint score is positive.
    """

    images: tuple[Any, ...]
    image: NDArray[np.intp]
    score: Double
    matched: Bool
    ignored: Bool
    positives: NDArray[np.int64]
    left_out: int = 0

    @cached_property
    def metrics(self) -> dict[str, float]:
        """AP, AP50, AP75, AP (M), AP (L), AR, AR50, AR75, AR (M), AR (L) as fractions; -1 where there is nobody."""
        curves = [self.curves(area) for area in range(len(AREAS))]
        figures = {}
        for name, (everyone, medium, large) in zip(("AP", "AR"), zip(*curves, strict=True), strict=True):
            parts = {"": everyone, "50": everyone[0], "75": everyone[5], " (M)": medium, " (L)": large}
            figures.update({f"{name}{part}": _mean(values) for part, values in parts.items()})
        return figures

    def curves(self, area: int = 0, weights: NDArray[np.integer] | None = None) -> tuple[Double, Double]:
        """Precision `(T, 101)` at the recalls 0, 0.01, ... 1, and the recall `(T,)` that is reached.

        All are -1 if there is nobody to find. `area` is an index into AREAS, `weights` `(I,)` counts each image.
        """
        weights = np.ones(len(self.images), np.int64) if weights is None else weights
        matched, counted = self.matched[area], ~self.ignored[area] * weights[self.image]
        total = int(self.positives[area] @ weights)
        precision, recall = np.zeros((len(THRESHOLDS), len(RECALLS))), np.zeros(len(THRESHOLDS))
        if total == 0:
            return precision - 1, recall - 1
        if len(self.score) == 0:
            return precision, recall
        true = (matched * counted).cumsum(axis=1).astype(np.float64)
        false = (~matched * counted).cumsum(axis=1).astype(np.float64)
        reached = true / total
        height = true / (false + true + _EPSILON)
        height = np.maximum.accumulate(height[:, ::-1], axis=1)[:, ::-1]
        for t in range(len(THRESHOLDS)):
            index = np.searchsorted(reached[t], RECALLS, side="left")
            inside = index < len(self.score)
            precision[t, inside] = height[t, index[inside]]
        return precision, reached[:, -1]


def evaluate_oks(
    coco: Mapping[str, Any],
    results: Sequence[Entry],
    sigmas: Sequence[float],
    *,
    fields: Sequence[tuple[str, int]] = (),
    use_area: bool = True,
    rules: Rules = "pycocotools",
    count_field: str = "",
    score_field: str = "",
) -> OksEvaluation:
    """Match results to annotated people.

    Args:
        coco: an annotation file's content: `images` and `annotations` with id, image_id, bbox (x, y, width, height),
            keypoints K x [x, y, v], area (with `use_area`), num_keypoints (with `count_field`), iscrowd if any.
        results: records with image_id, category_id, keypoints K x [x, y, score] and score.
        sigmas: K constants of the OKS.
        fields: (field, joints in it), if the joints are not all in `keypoints`.
        use_area: take a person's `area`; if not, 0.53 * width * height of the box.
        rules: see above.
        count_field: a person whose field of this name is 0 is ignored. If empty: `num_keypoints` by pycocotools' rules,
            and the number of labelled joints by xtcocotools'.
        score_field: rank results by this field if they have it, such as `foot_score`, else by `score`.

    Raises:
        InputError: a record that does not fit, see `coco_files`, or unknown rules.
    """
    if rules not in ("pycocotools", "xtcocotools"):
        raise InputError(f"unknown OKS rules {rules!r}; known: pycocotools, xtcocotools")
    original = rules == "pycocotools"
    constants = np.array(sigmas, np.float64)
    fields = list(fields) or [("keypoints", len(constants))]
    images = images_of(coco)
    truth = Truth.read(coco, images, fields, use_area, count_field or ("num_keypoints" if original else ""), original)
    found, left_out = Detections.read(results, coco, images, fields, score_field, drop=not original)
    matched, ignored = match(truth, found, constants)
    order = np.argsort(-found.score, kind="stable")
    positives = np.stack([np.bincount(truth.image[~i], minlength=len(images)) for i in truth.ignored])
    best = found.image[order], found.score[order], matched[..., order], ignored[..., order]
    return OksEvaluation(tuple(images), *best, positives, left_out)


def paired_interval(
    a: OksEvaluation, b: OksEvaluation, resamples: int = 1000, confidence: float = 0.95
) -> tuple[float, float, float]:
    """AP of `a` minus AP of `b`, low and high end of its interval by the paired bootstrap over images.

    Each resample draws as many images as there are, with replacement, the same for both; an image drawn n times counts
    n times. (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, percentile interval.)

    Args:
        a, b: evaluations of two models on the same annotations.
        resamples: number of draws; the seed is fixed.
        confidence: share of the draws inside the interval.

    Raises:
        InputError: the evaluations are of different images.
    """
    if a.images != b.images or not np.array_equal(a.positives, b.positives):
        raise InputError("the two evaluations are of different annotations: evaluate both on the same file")
    rng = np.random.default_rng(0)
    count = len(a.images)
    differences = np.empty(resamples)
    for i in range(resamples):
        weights = np.bincount(rng.integers(0, count, count), minlength=count)
        differences[i] = a.curves(weights=weights)[0].mean() - b.curves(weights=weights)[0].mean()
    tail = (1 - confidence) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    return a.metrics["AP"] - b.metrics["AP"], float(low), float(high)


def _mean(values: Double) -> float:
    known = values[values > -1]
    return float(known.mean()) if known.size else -1.0


def _score(
    dataset: Dataset, coco: Mapping[str, Any], results: Sequence[Entry], protocol: str, legacy_rules: Rules
) -> dict[str, float]:
    rules: Rules = legacy_rules if protocol == "legacy" else "xtcocotools"
    scored = evaluate_oks(coco, results, dataset.sigmas_for(protocol), use_area=dataset.use_area, rules=rules)
    if scored.left_out:
        text = "%d of %d results have no joint with a positive score: MMPose's rules leave them out"
        _log.warning(text, scored.left_out, len(results))
    return scored.metrics


OKS = Metric(partial(_score, legacy_rules="xtcocotools"))
"""COCO's figures by the rules of MMPose, whose tables most published figures come from."""

COCO_OKS = Metric(partial(_score, legacy_rules="pycocotools"))
"""The same, but `legacy` is COCO's own evaluation, which COCO's tables come from."""
