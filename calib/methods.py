"""Range methods: from what an observer saw of a tensor to the range that int8 represents.

Only `minmax` clips nothing. The others give up the rare large values for finer steps. That pays inside the network and
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
from .observers import HistogramObserver, MinMaxObserver, Range

_DEFAULT_PERCENT = 99.999
_STEPS = 255
_SHRINK = np.linspace(1.0, 0.2, 81)  # what `mse` tries, as a share of min-max
_ENTROPY_BINS, _ENTROPY_LEVELS = 2048, 128


def minmax(seen: MinMaxObserver) -> Range:
    """Every value seen; clips nothing."""
    return Range(min(seen.lo, 0.0), max(seen.hi, 0.0))


def percentile(seen: HistogramObserver, percent: float) -> Range:
    """The values between the (100 - percent)th and the percent-th percentile."""
    return Range(min(seen.quantile(1 - percent / 100), 0.0), max(seen.quantile(percent / 100), 0.0))


def mse(seen: HistogramObserver) -> Range:
    """The range with the least mean squared quantisation error over the calibration values.

    Measured in 255 steps, as in the unsigned variant; the symmetric variant does best with the same range.
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


def entropy(seen: HistogramObserver) -> Range:
    """The range whose 128 levels lose least information (Kullback-Leibler), as TensorRT's calibrator defined it.

    Source: Migacz, "8-bit inference with TensorRT", GTC 2017; on 2048 bins of magnitudes.
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
    candidates = range(_ENTROPY_LEVELS, _ENTROPY_BINS + 1, 4)
    clip = limit * min(candidates, key=lambda kept: _kl_divergence(counts, kept)) / _ENTROPY_BINS
    return Range(max(min(seen.lo, 0.0), -clip), min(max(seen.hi, 0.0), clip))


def _kl_divergence(counts: Any, kept: int) -> float:
    """KL divergence of the clipped distribution from what 128 levels over `kept` bins represent of it."""
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


METHODS: dict[str, tuple[Callable[[], MinMaxObserver], Callable[[Any], Range]]] = {
    "minmax": (MinMaxObserver, minmax),
    "percentile": (HistogramObserver, lambda seen: percentile(seen, _DEFAULT_PERCENT)),
    "mse": (HistogramObserver, mse),
    "entropy": (HistogramObserver, entropy),
}


def method(name: str) -> tuple[Callable[[], MinMaxObserver], Callable[[Any], Range]]:
    """The observer of a method and its function from observer to range; "percentile:99.99" sets the percentile.

    Raises CalibrationError: the method is unknown or the percentile impossible.
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
    return HistogramObserver, lambda seen: percentile(seen, percent)
