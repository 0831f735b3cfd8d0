"""Savitzky-Golay: for whole recordings, because it looks at frames before and after, and so is never late."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError

Double = NDArray[np.float64]

_NEGLIGIBLE = 1e-3
"""Of the largest weight in a window: below it a value only makes the fit ill-conditioned."""


def savitzky_golay(values: ArrayLike, window: int = 7, order: int = 2, weight: ArrayLike | None = None) -> Double:
    """Fit a polynomial to the window around each frame, and take its value there (Savitzky and Golay, 1964).

    Near the ends it is the polynomial of the first or last whole window. With equal weights this is
    `scipy.signal.savgol_filter(mode="interp")`.

    Args:
        values: `(T, ...)` one series of T frames in each column.
        window: odd number of frames; all frames, if there are fewer.
        order: of the polynomial, below `window`; lower where there are too few values.
        weight: like `values`, 0 for a value that is missing (NaN is, too). None: all weigh the same.

    Returns:
        `(T, ...)` float64; NaN where a window has no value.

    Raises:
        InputError: a window that is even or not above `order`, or weights that do not fit.
    """
    series = np.asarray(values, np.float64)
    if window < 1 or window % 2 == 0 or not 0 <= order < window:
        raise InputError(f"the window is {window} and the order {order}: expected an odd window above the order")
    weights = np.ones_like(series) if weight is None else np.asarray(weight, np.float64)
    if weights.shape != series.shape or not (weights >= 0).all():
        raise InputError(f"weights must be {series.shape}, from 0 on, not {weights.shape}")
    if not series.size:
        return series.copy()
    frames = len(series)
    x = series.reshape(frames, -1)
    w = np.where(np.isfinite(x), weights.reshape(frames, -1), 0)
    x = np.nan_to_num(x)
    width = min(window, frames)
    first = np.clip(np.arange(frames) - window // 2, 0, frames - width)
    index = first[:, None] + np.arange(width)  # (T, W)
    basis = ((index - np.arange(frames)[:, None]) / max(window // 2, 1))[..., None] ** np.arange(order + 1)  # (T, W, P)
    near, weigh = x[index], w[index]  # (T, W, C)
    weigh = weigh / np.maximum(weigh.max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    weigh[weigh < _NEGLIGIBLE] = 0
    normal = np.einsum("twp,twq,twc->tcpq", basis, basis, weigh, optimize=True)
    right = np.einsum("twp,twc->tcp", basis, weigh * near, optimize=True)
    degree = np.minimum(order, (weigh > 0).sum(axis=1) - 1)  # (T, C); -1 without any value
    out = np.full(x.shape, np.nan)
    for one in np.unique(degree[degree >= 0]).tolist():
        t, c = np.nonzero(degree == one)
        fit = np.linalg.solve(normal[t, c, : one + 1, : one + 1], right[t, c, : one + 1, None])
        out[t, c] = fit[:, 0, 0]
    return out.reshape(series.shape)
