"""How alike instances are: overlap of boxes, OKS of joints, and which of those that are alike remain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..metrics.oks_matching import BOX_AREA

Double = NDArray[np.float64]
Bool = NDArray[np.bool_]
Index = NDArray[np.intp]


def box_area(boxes: Double) -> Double:
    """`(N,)` px^2 of `(N, 4)` xyxy boxes; 0 for one that is turned inside out."""
    side = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return np.asarray(side[:, 0] * side[:, 1])


def iou(a: Double, b: Double) -> Double:
    """Intersection over union `(N, M)` of xyxy boxes `(N, 4)` and `(M, 4)`; 0 where both are empty."""
    first = np.maximum(a[:, None, :2], b[None, :, :2])
    side = np.maximum(np.minimum(a[:, None, 2:], b[None, :, 2:]) - first, 0)
    both = side[..., 0] * side[..., 1]
    union = box_area(a)[:, None] + box_area(b)[None] - both
    return np.asarray(np.divide(both, union, out=np.zeros_like(both), where=union > 0))


def containment(a: Double, b: Double) -> Double:
    """Share `(N, M)` of the smaller of two xyxy boxes, of `(N, 4)` and `(M, 4)`, that lies in the larger one."""
    first = np.maximum(a[:, None, :2], b[None, :, :2])
    side = np.maximum(np.minimum(a[:, None, 2:], b[None, :, 2:]) - first, 0)
    both, smaller = side[..., 0] * side[..., 1], np.minimum(box_area(a)[:, None], box_area(b)[None])
    return np.asarray(np.divide(both, smaller, out=np.zeros_like(both), where=smaller > 0))


def paired_iou(a: Double, b: Double) -> Double:
    """Intersection over union `(N,)` of each xyxy box of `a` `(N, 4)` with the one of `b` in the same row."""
    side = np.maximum(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0)
    both = side[:, 0] * side[:, 1]
    union = box_area(a) + box_area(b) - both
    return np.asarray(np.divide(both, union, out=np.zeros_like(both), where=union > 0))


def oks(
    pairs: tuple[Index, Index], a: tuple[Double, Double, Double], b: tuple[Double, Double, Double], sigmas: Double
) -> Double:
    """Object keypoint similarity of pairs of instances, each joint weighted by its scores in both.

    COCO's formula, symmetric: its area is the mean of both instances', 0.53 of their boxes as where COCO has none.

    Args:
        pairs: `(P,)` indices in `a` and in `b`.
        a, b: joints `(N, K, 2)` px, their scores `(N, K)`, and boxes `(N, 4)` xyxy px.
        sigmas: `(K,)` constants of the OKS.

    Returns:
        `(P,)` in 0..1; 0 where no joint has a score in both.
    """
    (i, j), (xy, score, box), (other, others_score, others_box) = pairs, a, b
    weight = np.maximum(score[i] * others_score[j], 0)
    area = BOX_AREA * (box_area(box)[i] + box_area(others_box)[j]) / 2
    squared = ((xy[i] - other[j]) ** 2).sum(axis=2)
    scale = 2 * np.maximum(area, 1)[:, None] * (2 * sigmas) ** 2  # px^2; an instance covers a pixel at least
    total = weight.sum(axis=1)
    alike = (np.exp(-squared / scale) * weight).sum(axis=1)
    return np.asarray(np.divide(alike, total, out=np.zeros_like(alike), where=total > 0))


def unlike(alike: Double, order: Index, threshold: float) -> Bool:
    """Non-maximum suppression: `(N,)` which instances are not alike any better one that remains.

    Args:
        alike: `(N, N)` similarities.
        order: `(N,)` the instances, best first.
        threshold: two are the same from this similarity on.
    """
    same = alike >= threshold
    keep = np.zeros(len(order), np.bool_)
    if same.sum() <= len(order):  # each is alike itself only
        return ~keep
    gone = np.zeros(len(order), np.bool_)
    for best in order.tolist():
        if not gone[best]:
            keep[best] = True
            gone |= same[best]
    return keep
