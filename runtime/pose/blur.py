"""OpenCV's Gaussian blur of many small maps at once, or of a few cells of each.

Blurring is a product with a banded matrix from each side. The border rule is in the matrix, and a few cells need a few
rows of it only.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

Float = NDArray[np.float32]
Double = NDArray[np.float64]
Index = NDArray[np.intp]

_TABLES = {
    1: (1,),
    3: (1, 2, 1),
    5: (1, 4, 6, 4, 1),
    7: (8, 28, 56, 72, 56, 28, 8),
    9: (4, 13, 30, 51, 60, 51, 30, 13, 4),
}


def blurred_windows(maps: Float, x: Index, y: Index, kernel: int, border: str, reach: int) -> Double:
    """The blurred maps around one cell each; beyond a map its nearest blurred cell repeats.

    Args:
        maps: `(M, h, w)`.
        x, y: `(M,)` column and row of the cells.
        kernel: size of the Gaussian, cells, odd.
        border: what lies beyond a map as it is blurred: "zero" or "reflect" (without repeating the edge).
        reach: cells to each side of the one.

    Returns:
        `(M, 2 * reach + 1, 2 * reach + 1)` float64.
    """
    height, width = maps.shape[1:]
    offsets = np.arange(-reach, reach + 1)
    rows = blur_matrix(height, kernel, border)[np.clip(y[:, None] + offsets, 0, height - 1)]
    columns = blur_matrix(width, kernel, border)[np.clip(x[:, None] + offsets, 0, width - 1)]
    blurred: Double = rows @ maps @ columns.transpose(0, 2, 1)
    return blurred


def blur(maps: Float, kernel: int, border: str, margin: int = 0) -> Double:
    """Gaussian blur of all maps `(M, h + 2 * margin, w + 2 * margin)`, in double precision, which keeps ties."""
    height, width = maps.shape[1:]
    rows, columns = blur_matrix(height, kernel, border, margin), blur_matrix(width, kernel, border, margin)
    blurred: Double = rows @ maps @ columns.T
    return blurred


@cache
def blur_matrix(size: int, kernel: int, border: str, margin: int = 0) -> Double:
    """`(size + 2 * margin, size)`: row i holds the weights with which cell i - margin of the blurred row is made."""
    weights = gaussian(kernel)
    at = np.arange(-margin, size + margin)[:, None] + np.arange(kernel) - kernel // 2
    if border == "reflect":  # without repeating the edge, back and forth if need be
        period = max(2 * (size - 1), 1)
        at = at % period
        at = np.minimum(at, period - at) if size > 1 else at * 0
    matrix = np.zeros((size + 2 * margin, size))
    inside = (at >= 0) & (at < size)
    np.add.at(matrix, (np.nonzero(inside)[0], at[inside]), np.broadcast_to(weights, at.shape)[inside])
    matrix.flags.writeable = False
    return matrix


def gaussian(size: int) -> Double:
    """OpenCV's kernel of an odd size: fixed tables for the small ones, else sigma from the size."""
    if size % 2 == 0 or size < 1:
        raise InputError(f"the kernel of a decode rule must be odd and positive, not {size}")
    if size in _TABLES:
        return np.array(_TABLES[size]) / sum(_TABLES[size])
    sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8
    weights = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * sigma * sigma))
    return np.asarray(weights / weights.sum(), np.float64)
