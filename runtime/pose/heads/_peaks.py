"""What rules have in common that read one map per joint.

M maps lie in one array `(M, h, w)`; columns and rows of cells are `(M,)`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ...bundle.contract import Contract
from ..blur import blur
from . import Outputs

Float = NDArray[np.float32]
Double = NDArray[np.float64]
Index = NDArray[np.intp]


def per_map(rule: Callable[[Float, int], tuple[Double, Float]]) -> Callable[[Outputs, Contract], tuple[Double, Float]]:
    """`Head.decode` from a function that takes M maps and the size of a Gaussian, and gives `(M, 2)` and `(M,)`."""

    def decode(outputs: Outputs, contract: Contract) -> tuple[Double, Float]:
        (maps,) = outputs
        people, joints, height, width = maps.shape
        xy, score = rule(maps.reshape(people * joints, height, width), contract.kernel)
        return xy.reshape(people, joints, 2), score.reshape(people, joints)

    return decode


def highest(maps: Float) -> tuple[Index, Index, Float]:
    """Column, row and value `(M,)` of each map's first highest cell in reading order; -1, -1 if it is not above 0."""
    cells = maps.reshape(len(maps), -1)
    index = cells.argmax(axis=1)
    value = cells[np.arange(len(cells)), index]
    y, x = np.divmod(index, maps.shape[2])
    empty = value <= 0
    if empty.any():
        x[empty] = y[empty] = -1
    return x, y, value


def points(x: Index, y: Index) -> Double:
    """`(M, 2)` of columns and rows. np.stack takes three times as long when it is not in the CPU's caches."""
    found = np.empty((len(x), 2))
    found[:, 0], found[:, 1] = x, y
    return found


def uphill(maps: Float, x: Index, y: Index) -> tuple[Float, NDArray[np.bool_]]:
    """Sign of the slope at each cell `(M, 2)`, 0 unless the cell is inside, and which cells are `(M,)`.

    Inside leaves out two cells at the left and the top, one at the right and the bottom, as the reference does.
    """
    height, width = maps.shape[1:]
    inside = (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)
    around = neighbours(maps, x, y)
    return np.sign(around[:, :2] - around[:, 2:]) * inside[:, None], inside


def neighbours(maps: Float, x: Index, y: Index) -> Float:
    """The cells right of, below, left of and above one cell of each map `(M, 4)`.

    At the border of a map they are some other cells of the batch.
    """
    height, width = maps.shape[1:]
    at = (np.arange(len(maps)) * height + y) * width + x
    around: Float = maps.reshape(-1).take(at[:, None] + np.array([1, width, -1, -width]), mode="clip")
    return around


def newton(dxx: Double, dyy: Double, dxy: Double, slope: Double) -> Double:
    """Inverse Hessian times slope `(M, 2)`; zero where there is no inverse."""
    det = dxx * dyy - dxy * dxy
    step = np.stack([dyy * slope[:, 0] - dxy * slope[:, 1], dxx * slope[:, 1] - dxy * slope[:, 0]], axis=1)
    return np.divide(step, det[:, None], out=np.zeros_like(step), where=(det != 0)[:, None])


def newton_3x3(log: Double) -> Double:
    """The Newton step `(M, 2)` of UDP's DARK, from the logarithms of blurred maps around one cell each `(M, 3, 3)`."""
    epsilon = np.finfo(np.float32).eps
    slope = 0.5 * np.stack([log[:, 1, 2] - log[:, 1, 0], log[:, 2, 1] - log[:, 0, 1]], axis=1)
    dxx = log[:, 1, 2] - 2 * log[:, 1, 1] + log[:, 1, 0] + epsilon
    dyy = log[:, 2, 1] - 2 * log[:, 1, 1] + log[:, 0, 1] + epsilon
    dxy = 0.5 * (
        log[:, 2, 2] - log[:, 1, 2] - log[:, 2, 1] + 2 * log[:, 1, 1] - log[:, 1, 0] - log[:, 0, 1] + log[:, 0, 0]
    )
    return newton(dxx, dyy, dxy, slope)


def rescale(windows: Double, cells: Index, maps: Float, value: Float, kernel: int) -> None:
    """Scale blurred windows `(M, s, s)` of these cells of the batch to the maximum that the map had before, in place.

    `cells` are the indices of the windows for which it makes a difference; the blur has zeros around the map.
    """
    if len(cells):
        peak = blur(maps[cells], kernel, "zero").max(axis=(1, 2))
        windows[cells] *= (value[cells] / peak)[:, None, None]
