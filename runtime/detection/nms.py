"""Greedy non-maximum suppression: of two boxes of a class that overlap too much, the surer one stays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def nms(
    boxes: NDArray[np.float32], score: NDArray[np.float32], label: NDArray[np.int64], threshold: float
) -> NDArray[np.intp]:
    """Indices of the boxes that stay, the surest first; the first given of equal ones.

    Args:
        boxes: `(N, 4)` xyxy. Their unit plays no part.
        score, label: `(N,)`. Boxes of different labels do not suppress each other.
        threshold: intersection over union above which the less sure box is dropped.
    """
    left = np.argsort(-score, kind="stable")
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[np.intp] = []
    while len(left):
        first, left = left[0], left[1:]
        kept.append(first)
        corner = np.minimum(boxes[first, 2:], boxes[left, 2:]) - np.maximum(boxes[first, :2], boxes[left, :2])
        overlap = np.maximum(corner, 0).prod(axis=1)
        # IoU > threshold, without a division by the union of two empty boxes
        same = overlap > threshold * (area[first] + area[left] - overlap)
        left = left[~(same & (label[left] == label[first]))]
    return np.array(kept, np.intp)
