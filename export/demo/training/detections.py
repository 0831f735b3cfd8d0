"""The AP of a detector's answers to labelled pictures."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..letterbox import HEIGHT, STRIDES, WIDTH, letterbox
from ..people import Image

Floats = NDArray[np.float32]

_LEAST = 0.01  # score
_OVERLAP = 0.65  # of two boxes that count as one, as in YOLOX's evaluation


def detections(answers: Floats) -> tuple[Floats, Floats]:
    """Boxes `(D, 4)` xywh, px of the network's input, and scores `(D,)` of one picture's answers `(A, 6)`."""
    corners, strides = [], []
    for stride in STRIDES:
        y, x = np.mgrid[: HEIGHT // stride, : WIDTH // stride]
        corners.append(np.stack([x, y], 2).reshape(-1, 2) * stride)
        strides.append(np.full((y.size, 1), stride))
    corner, stride_of = np.concatenate(corners), np.concatenate(strides)
    sides = np.exp(answers[:, 2:4]) * stride_of
    boxes = np.concatenate([answers[:, :2] * stride_of + corner - sides / 2, sides], 1)
    score = answers[:, 4] * answers[:, 5]
    kept = np.asarray(cv2.dnn.NMSBoxes(boxes.tolist(), score.tolist(), _LEAST, _OVERLAP), np.int64).reshape(-1)
    return boxes[kept].astype(np.float32), score[kept]


def average_precision(
    infer: Callable[[NDArray[np.float32]], Floats], images: Sequence[Image], people: Sequence[Sequence[Sequence[float]]]
) -> dict[str, float]:
    """COCO's AP and AP50 of boxes, by pycocotools.

    Args:
        infer: pictures `(1, 3, 256, 320)` to answers `(1, A, 6)`.
        images: BGR, of any size.
        people: of each image, boxes xywh px.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    results: list[dict[str, Any]] = []
    for number, image in enumerate(images):
        filled, scale = letterbox(image)
        boxes, scores = detections(infer(np.ascontiguousarray(filled.transpose(2, 0, 1)[None], np.float32))[0])
        for box, score in zip((boxes / scale).tolist(), scores.tolist(), strict=True):
            results.append({"image_id": number + 1, "category_id": 1, "bbox": box, "score": score})
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": number + 1} for number in range(len(images))],
        "annotations": [
            {"image_id": number + 1, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for number, several in enumerate(people)
            for box in several
        ],
        "categories": [{"id": 1, "name": "person"}],
    }
    for number, annotation in enumerate(truth.dataset["annotations"]):
        annotation["id"] = number + 1
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints as it goes
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {"AP": round(float(evaluation.stats[0]), 4), "AP50": round(float(evaluation.stats[1]), 4)}
