"""Greedy non-maximum suppression: of two boxes of a class that overlap too much, the surer one stays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BLOCK = 256  # boxes whose overlaps are computed at a time: one by one, Python takes longer than the arithmetic


def nms(
    boxes: NDArray[np.float32], score: NDArray[np.float32], label: NDArray[np.int64], threshold: float
) -> NDArray[np.intp]:
    """Indices of the boxes that stay, the surest first; the first given of equal ones.

    Args:
        boxes: `(N, 4)` xyxy. Their unit plays no part.
        score, label: `(N,)`. Boxes of different labels do not suppress each other.
        threshold: intersection over union above which the less sure box is dropped.
    """
    x1, y1, x2, y2 = boxes.T
    area = (x2 - x1) * (y2 - y1)

    def overlapping(a: NDArray[np.intp], b: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Whether the IoU is above the threshold, `(len(a), len(b))`. Without a division: empty boxes overlap none."""
        width = np.minimum(x2[a, None], x2[b]) - np.maximum(x1[a, None], x1[b])
        height = np.minimum(y2[a, None], y2[b]) - np.maximum(y1[a, None], y1[b])
        common = np.maximum(width, 0) * np.maximum(height, 0)
        over: NDArray[np.bool_] = common > threshold * (area[a, None] + area[b] - common)
        same: NDArray[np.bool_] = label[a, None] == label[b]
        return np.logical_and(over, same)

    order = np.argsort(-score, kind="stable")
    kept = np.empty(0, np.intp)
    for start in range(0, len(order), _BLOCK):
        block = order[start : start + _BLOCK]
        block = block[~overlapping(block, kept).any(axis=1)]
        suppresses = overlapping(block, block)
        stays = np.ones(len(block), bool)
        for i in range(len(block)):
            if stays[i]:
                stays[i + 1 :] &= ~suppresses[i, i + 1 :]
        kept = np.concatenate([kept, block[stays]])
    return kept
