"""The confidence interval of a difference in AP: the paired bootstrap over images."""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from .oks import OksEvaluation


def paired_interval(
    a: OksEvaluation, b: OksEvaluation, resamples: int = 1000, seed: int = 0, confidence: float = 0.95
) -> tuple[float, float, float]:
    """AP of `a` minus AP of `b`, with its bootstrap interval.

    Each resample draws as many images as there are, with replacement, the same for both; an image drawn n times counts
    n times. (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, percentile interval.)

    Args:
        a, b: evaluations of two models on the same annotations.
        resamples: number of draws.
        seed: of the draws.
        confidence: share of the draws inside the interval.

    Returns:
        difference, low, high.

    Raises:
        InputError: the evaluations are of different images.
    """
    if a.images != b.images or not np.array_equal(a.positives, b.positives):
        raise InputError("the two evaluations are of different annotations: evaluate both on the same file")
    rng = np.random.default_rng(seed)
    count = len(a.images)
    differences = np.empty(resamples)
    for i in range(resamples):
        weights = np.bincount(rng.integers(0, count, count), minlength=count)
        differences[i] = a.curves(weights=weights)[0].mean() - b.curves(weights=weights)[0].mean()
    tail = (1 - confidence) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    return a.metrics["AP"] - b.metrics["AP"], float(low), float(high)
