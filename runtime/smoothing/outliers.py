"""Values that cannot be right, and values that are missing, in series of frames."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError

Double = NDArray[np.float64]
Bool = NDArray[np.bool_]

_NORMAL = 1.4826
"""Standard deviation of a normal distribution, in medians of the absolute deviations."""


def hampel(values: ArrayLike, window: int = 7, deviations: float = 3.0) -> Bool:
    """Which values lie too far from the median of the frames around them (Hampel, 1974).

    Args:
        values: `(T, ...)` one series of T frames in each column; NaN is no outlier.
        window: odd number of frames; fewer at the ends.
        deviations: how many standard deviations are too far; these are estimated by the median absolute deviation.

    Raises:
        InputError: the window is even.
    """
    series = np.asarray(values, np.float64)
    if window < 1 or window % 2 == 0:
        raise InputError(f"the window is {window}, expected an odd number of frames")
    if not series.size:
        return np.zeros(series.shape, np.bool_)
    edge = np.full((window // 2, *series.shape[1:]), np.nan)
    around = sliding_window_view(np.concatenate([edge, series, edge]), window, axis=0)
    middle = _median(around)
    spread = _median(np.abs(around - middle[..., None]))
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(series - middle) > deviations * _NORMAL * spread)


def fill_gaps(values: ArrayLike, longest: int) -> Double:
    """Put straight lines across runs of at most `longest` NaN frames that have a value on either side.

    Args:
        values: `(T, ...)` one series of T frames in each column.
        longest: frames.

    Returns:
        `(T, ...)` float64; longer runs, and those at the ends, stay NaN.
    """
    series = np.asarray(values, np.float64)
    if not series.size:
        return series.copy()
    frames = len(series)
    x = series.reshape(frames, -1)
    known = np.isfinite(x)
    place = np.arange(frames)[:, None]
    before = np.maximum.accumulate(np.where(known, place, -1), axis=0)
    after = np.minimum.accumulate(np.where(known, place, frames)[::-1], axis=0)[::-1]
    short = ~known & (before >= 0) & (after < frames) & (after - before - 1 <= longest)
    t, c = np.nonzero(short)
    first, last = before[t, c], after[t, c]
    share = (t - first) / (last - first)
    out = x.copy()
    out[t, c] = x[first, c] + share * (x[last, c] - x[first, c])
    return out.reshape(series.shape)


def _median(windows: Double) -> Double:
    """Median over the last axis of what is not NaN; NaN where all is."""
    ordered = np.sort(windows, axis=-1)  # NaN last
    count = np.isfinite(windows).sum(axis=-1)
    low, high = np.maximum((count - 1) // 2, 0), np.minimum(count // 2, windows.shape[-1] - 1)
    middle = np.take_along_axis(ordered, np.stack([low, high], axis=-1), axis=-1)
    return np.where(count > 0, middle.mean(axis=-1), np.nan)
