"""Arithmetic that layouts share."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32))
"""Of the levels of YOLO networks: the usual ones, P6 and P2."""


def corners(boxes: NDArray[Any]) -> NDArray[np.float32]:
    """Boxes `(N, 4)` of centre and size as xyxy."""
    half = boxes[:, 2:4] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1).astype(np.float32, copy=False)


def strides_of(size: tuple[int, int], cells: int) -> tuple[int, ...]:
    """Strides of the levels that have so many cells in all for an input of this (height, width); () if none have."""
    for strides in STRIDES:
        if sum((size[0] // s) * (size[1] // s) for s in strides) == cells:
            return strides
    return ()


@lru_cache(maxsize=8)
def grid(size: tuple[int, int], strides: tuple[int, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The cell (x, y) and the stride of each prediction, `(A, 2)` and `(A, 1)`: levels in order, rows first."""
    cells, scale = [], []
    for stride in strides:
        y, x = np.mgrid[: size[0] // stride, : size[1] // stride]
        cells.append(np.stack([x, y], axis=-1).reshape(-1, 2))
        scale.append(np.full((x.size, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(scale).astype(np.float32)


def sigmoid(x: NDArray[Any]) -> NDArray[np.float32]:
    """1 / (1 + exp(-x)), which overflows nowhere."""
    e = np.exp(-np.abs(x, dtype=np.float32))
    found: NDArray[np.float32] = np.where(x >= 0, np.float32(1), e) / (1 + e)
    return found
