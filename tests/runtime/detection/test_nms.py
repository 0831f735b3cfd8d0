"""NMS against OpenCV's and against its definition."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from posert.runtime.detection.nms import nms


def made(seed: int, count: int, labels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    first = rng.uniform(0, 80, (count, 2))
    boxes = np.concatenate([first, first + rng.uniform(5, 60, (count, 2))], axis=1)
    boxes = np.round(4 * boxes).astype(np.float32) / 4  # so that areas and sums of them are exact in float32
    return boxes, rng.permutation(count).astype(np.float32) / count, rng.integers(0, labels, count)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    w, h = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    inter = max(w, 0) * max(h, 0)
    return float(inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter))


@given(st.integers(0, 10**6), st.integers(0, 80), st.integers(1, 4), st.sampled_from([0.3, 0.5, 0.7, 0.9]))
def test_what_it_promises(seed: int, count: int, labels: int, threshold: float) -> None:
    boxes, score, label = made(seed, count, labels)
    kept = nms(boxes, score, label, threshold)
    assert len(set(kept)) == len(kept) and (np.diff(score[kept]) < 0).all()
    for place, i in enumerate(kept):  # none of those that stay overlap too much, and each that went did
        assert all(label[i] != label[j] or iou(boxes[i], boxes[j]) <= threshold + 1e-6 for j in kept[:place])
    for i in set(range(count)) - set(kept):
        better = [j for j in kept if score[j] > score[i] and label[j] == label[i]]
        assert any(iou(boxes[i], boxes[j]) > threshold - 1e-6 for j in better)


@given(st.integers(0, 10**6), st.sampled_from([0, 1, 60, 700]))
def test_equals_opencv(seed: int, count: int) -> None:
    boxes, score, label = made(seed, count, 3)
    sides = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).astype(float)
    expected = cv2.dnn.NMSBoxesBatched(sides.tolist(), score.tolist(), label.tolist(), -1.0, 0.5)
    assert nms(boxes, score, label, 0.5).tolist() == list(expected)


def test_equal_scores_keep_the_first_and_empty_boxes_stay() -> None:
    box = np.array([[1, 1, 9, 9]] * 3, np.float32)
    assert nms(box, np.ones(3, np.float32), np.array([0, 0, 1]), 0.5).tolist() == [0, 2]
    point = np.array([[1, 1, 1, 1]] * 2, np.float32)
    assert nms(point, np.ones(2, np.float32), np.zeros(2, int), 0.5).tolist() == [0, 1]
