"""What the graph forms share: the highest cell of each map, cells around it, the Gaussian blur, the Newton step.

Maps are `(N, K, h, w)`, and all that there is one of per joint is `(N, K, 1)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...runtime.pose.blur import gaussian
from ._nodes import Nodes, Operand

ZERO, ONE = np.float32(0), np.float32(1)
Size = tuple[int, int]
"""Rows and columns of a map."""


@dataclass(frozen=True)
class Peak:
    """The first highest cell of each map in reading order.

    Attributes:
        flat: the maps as rows `(N, K, h * w)`.
        size: of a map.
        at: index of the cell, int64; `column` and `row` are its place.
        x, y: the place as float32.
        value: of the cell.
    """

    flat: str
    size: Size
    at: str
    column: str
    row: str
    x: str
    y: str
    value: str


def highest(n: Nodes, maps: str, size: Size) -> Peak:
    """Find the highest cells. Of equal cells every runtime takes the first, which ArgMax does not promise."""
    height, width = size
    flat = n("Reshape", maps, np.array([0, 0, -1], np.int64))
    at, value = first_highest(n, flat, height * width)
    row = n("Div", at, np.int64(width))
    column = n("Sub", at, n("Mul", row, np.int64(width)))
    x, y = (n("Cast", one, to=1) for one in (column, row))
    return Peak(flat, size, at, column, row, x, y, value)


def first_highest(n: Nodes, vectors: str, length: int) -> tuple[str, str]:
    """Index (int64) and value of the first highest cell of vectors `(N, K, length)`."""
    value = n.reduce("ReduceMax", vectors, 2)
    index = np.arange(length, dtype=np.float32).reshape(1, 1, length)
    candidates = n("Where", n("Equal", vectors, value), index, np.float32(length - 1))
    return n("Cast", n.reduce("ReduceMin", candidates, 2), to=7), value


def unless_empty(n: Nodes, value: str, *coordinates: str) -> tuple[str, ...]:
    """The coordinates, -1 for joints whose map has no value above zero."""
    found = n("Greater", value, ZERO)
    return tuple(n("Where", found, one, np.float32(-1)) for one in coordinates)


def cells(n: Nodes, flat: str, size: Size, columns: str, rows: str) -> str:
    """Values `(N, K, C)` of the cells at columns and rows `(N, K, C)`, int64; beyond a map its nearest cell repeats."""
    height, width = size
    column, row = (
        n("Max", n("Min", at, np.int64(last)), np.int64(0)) for at, last in ((columns, width - 1), (rows, height - 1))
    )
    return n("GatherElements", flat, n("Add", n("Mul", row, np.int64(width)), column), axis=2)


def around(n: Nodes, flat: str, peak: Peak, places: Sequence[tuple[int, int]]) -> list[str]:
    """Values of the cells at these distances `(columns, rows)` from the peak."""
    across, down = (np.array(distances, np.int64).reshape(1, 1, -1) for distances in zip(*places, strict=True))
    columns, rows = n("Add", peak.column, across), n("Add", peak.row, down)
    return picked(n, cells(n, flat, peak.size, columns, rows), len(places))


def picked(n: Nodes, values: str, count: int) -> list[str]:
    """The columns of `(N, K, count)`."""
    return [n("Gather", values, np.array([i], np.int64), axis=2) for i in range(count)]


def between(n: Nodes, value: str, low: float, high: float) -> str:
    """Whether a float32 is above `low` and below `high`."""
    return n("And", n("Greater", value, np.float32(low)), n("Less", value, np.float32(high)))


def uphill(n: Nodes, peak: Peak) -> tuple[str, str]:
    """Sign of the slope at the peak along x and y."""
    right, below, left, above = around(n, peak.flat, peak, ((1, 0), (0, 1), (-1, 0), (0, -1)))
    return n("Sign", n("Sub", right, left)), n("Sign", n("Sub", below, above))


def only_where(n: Nodes, condition: str, value: Operand) -> str:
    """The value where a condition holds, else 0."""
    return n("Where", condition, value, ZERO)


def blur(n: Nodes, maps: str, joints: int, kernels: Size, border: str, margin: int = 0) -> str:
    """Gaussian blur of each map, with kernels of odd sizes along y and x; 1 leaves an axis as it is.

    Args:
        border: what lies beyond a map: "zero" or "reflect" (without repeating the edge).
        margin: cells by which the result is larger on each side.
    """
    down, across = kernels
    if border == "reflect":
        before = [0, 0, down // 2, across // 2]
        maps, margin = n("Pad", maps, np.array(before * 2, np.int64), mode="reflect"), -1
    for axis, size in ((2, down), (3, across)):
        if size == 1 and margin <= 0:
            continue
        shape = (joints, 1, size, 1) if axis == 2 else (joints, 1, 1, size)
        weights = np.broadcast_to(gaussian(size).astype(np.float32).reshape(shape[2:]), shape)
        padded = 0 if margin < 0 else size // 2 + margin
        pads = [padded, 0] * 2 if axis == 2 else [0, padded] * 2
        maps = n("Conv", maps, np.ascontiguousarray(weights), group=joints, pads=pads)
    return maps


def flattened(n: Nodes, maps: str) -> str:
    """Maps as rows `(N, K, h * w)`."""
    return n("Reshape", maps, np.array([0, 0, -1], np.int64))


def ratio(n: Nodes, over: str, under: str) -> str:
    """A quotient; 1 where there is none."""
    none = n("Equal", under, ZERO)
    return n("Where", none, ONE, n("Div", over, n("Where", none, ONE, under)))


def newton(n: Nodes, dxx: str, dyy: str, dxy: str, slope: tuple[str, str]) -> tuple[str, str]:
    """Inverse Hessian times slope along x and y; zero where there is no inverse."""
    dx, dy = slope
    det = n("Sub", n("Mul", dxx, dyy), n("Mul", dxy, dxy))
    none = n("Equal", det, ZERO)
    safe = n("Where", none, ONE, det)
    steps = (
        n("Sub", n("Mul", dyy, dx), n("Mul", dxy, dy)),
        n("Sub", n("Mul", dxx, dy), n("Mul", dxy, dx)),
    )
    across, down = (n("Where", none, ZERO, n("Div", step, safe)) for step in steps)
    return across, down


def log_between(n: Nodes, value: str, low: float, high: float | None) -> str:
    """Logarithm of a value that is held between two limits."""
    limited = n("Max", value, np.float32(low))
    return n("Log", limited if high is None else n("Min", limited, np.float32(high)))


def difference(n: Nodes, a: str, b: str, factor: float) -> str:
    """`factor * (a - b)`."""
    return n("Mul", n("Sub", a, b), np.float32(factor))


def curvature(n: Nodes, after: str, here: str, before: str) -> str:
    """`after - 2 * here + before`."""
    return n("Add", n("Sub", after, here), n("Sub", before, here))
