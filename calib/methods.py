"""From what was seen of a tensor to the range that int8 shall tell apart.

Only `minmax` clips nothing. The others trade the rare large values for finer steps, which pays inside the network and
ruins its output: a heatmap is nearly all zeros with one rare peak, and the peak is what the decoder reads. The entropy
method (TensorRT's classic) on a heatmap costs half of the AP. Q/DQ placement never quantises a graph output.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..runtime.errors import CalibrationError
from ..runtime.registry import unknown_name
from .histogram import Extremes, Histogram, Range

KEYPOINTS = "keypoints"
_DEFAULT_PERCENT = 99.999
_STEPS = 255
_SHRINK = np.linspace(1.0, 0.2, 81)  # what `mse` tries, as a share of min-max
_ENTROPY_BINS, _ENTROPY_LEVELS = 2048, 128


def minmax(seen: Extremes) -> Range:
    """Everything seen; clips nothing, and is what the heatmap's rare peaks need."""
    return Range(min(seen.lo, 0.0), max(seen.hi, 0.0))


def percentile(seen: Histogram, percent: float) -> Range:
    """The values between the (100 - percent)th and the percent-th percentile."""
    return Range(min(seen.quantile(1 - percent / 100), 0.0), max(seen.quantile(percent / 100), 0.0))


def mse(seen: Histogram) -> Range:
    """The range that makes the mean squared error of quantising least, values being what they were in calibration.

    Measured in 255 steps, as the CPU twin has them; the symmetric twin does best with the same range.
    """
    full = minmax(seen)
    filled = np.flatnonzero(seen.counts)
    values = np.ldexp(filled - seen.bins + 0.5, seen.exponent)
    if seen.lo >= 0:
        # Behind a ReLU most values are exactly zero, which every scale represents exactly.
        values[filled == seen.bins] = 0.0
    counts = seen.counts[filled]
    best, least = full, math.inf
    for share in _SHRINK:
        lo, hi = full.lo * share, full.hi * share
        step = (hi - lo) / _STEPS
        if step == 0:
            break
        error = np.rint(np.clip(values, lo, hi) / step) * step - values
        loss = float(error * error @ counts)
        if loss < least:
            best, least = Range(lo, hi), loss
    return best


def entropy(seen: Histogram) -> Range:
    """The range whose 128 levels lose least information (Kullback-Leibler), as TensorRT's calibrator defined it.

    Migacz, "8-bit inference with TensorRT", GTC 2017, on 2048 bins of magnitudes.
    """
    limit = max(-seen.lo, seen.hi)
    if limit == 0:
        return minmax(seen)
    magnitudes = (seen.counts[seen.bins :] + seen.counts[: seen.bins][::-1]).astype(np.float64)
    used = math.ceil(limit / math.ldexp(1, seen.exponent))
    edges = np.linspace(0, used, _ENTROPY_BINS + 1)
    below = np.interp(edges, np.arange(used + 1), np.concatenate([[0], np.cumsum(magnitudes[:used])]))
    counts = np.diff(below)
    counts[0] = counts[1]  # the spike at zero is exact at every scale
    if not counts.any():
        return minmax(seen)
    best, least = _ENTROPY_BINS, math.inf
    for kept in range(_ENTROPY_LEVELS, _ENTROPY_BINS + 1, 4):
        loss = _divergence(counts, kept)
        if loss < least:
            best, least = kept, loss
    clip = limit * best / _ENTROPY_BINS
    return Range(max(min(seen.lo, 0.0), -clip), min(max(seen.hi, 0.0), clip))


def _divergence(counts: Any, kept: int) -> float:
    """KL divergence of the clipped distribution from what 128 levels over `kept` bins leave of it."""
    inside = counts[:kept]
    clipped = inside.copy()
    clipped[-1] += counts[kept:].sum()
    edges = np.arange(_ENTROPY_LEVELS) * kept // _ENTROPY_LEVELS
    filled = inside > 0
    mean = np.add.reduceat(inside, edges) / np.maximum(np.add.reduceat(filled.astype(np.float64), edges), 1)
    level = np.repeat(mean, np.diff(np.append(edges, kept))) * filled
    p = clipped / clipped.sum()
    q = np.maximum(level / max(level.sum(), 1e-30), 1e-9)
    some = p > 0
    return float((p[some] * np.log(p[some] / q[some])).sum())


METHODS: dict[str, tuple[Callable[[], Extremes], Callable[[Any], Range]]] = {
    "minmax": (Extremes, minmax),
    "percentile": (Histogram, lambda seen: percentile(seen, _DEFAULT_PERCENT)),
    "mse": (Histogram, mse),
    "entropy": (Histogram, entropy),
    KEYPOINTS: (Histogram, mse),  # where its search begins, see keypoint_ranges.py
}


def method(name: str) -> tuple[Callable[[], Extremes], Callable[[Any], Range]]:
    """The observer of a method and the function from it to a range; "percentile:99.99" sets the percentile.

    Raises:
        CalibrationError: for an unknown method or an impossible percentile.
    """
    kind, _, argument = name.partition(":")
    if kind not in METHODS:
        raise CalibrationError(unknown_name("range method", kind, METHODS))
    if not argument:
        return METHODS[kind]
    try:
        percent = float(argument) if kind == "percentile" else math.nan
    except ValueError:
        percent = math.nan
    if not 50 < percent <= 100:
        raise CalibrationError(
            f"range method {name!r}: only percentile takes a number, above 50 and at most 100, as in percentile:99.99"
        )
    return Histogram, lambda seen: percentile(seen, percent)
