"""The AP of a detector's answers to labelled pictures."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....runtime.detection import LAYOUTS
from ....runtime.detection.nms import nms
from ..letterbox import HEIGHT, WIDTH, letterbox
from ..people import Image

Floats = NDArray[np.float32]

_LEAST = 0.01  # score
_OVERLAP = 0.65  # of two boxes that count as one, as in YOLOX's evaluation


def detections(answers: Floats) -> tuple[Floats, Floats]:
    """Boxes `(D, 4)` xywh, px of the network's input, and scores `(D,)` of one picture's answers `(A, 6)`."""
    found = LAYOUTS.load("yolox").decode({"output": answers[None]}, (HEIGHT, WIDTH), _LEAST)
    kept = nms(found.boxes, found.score, found.label, _OVERLAP)
    corners = found.boxes[kept]
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1), found.score[kept]


def average_precision(
    infer: Callable[[Floats], Floats], images: Sequence[Image], people: Sequence[Sequence[Mapping[str, Any]]]
) -> dict[str, float]:
    """COCO's AP and AP50 of boxes, by pycocotools; AP50_labelled leaves out people with fewer than five seen joints.

    Whoever has no labelled joint is nearly hidden: as in COCO's keypoint evaluation, to find such a person or not is
    neither right nor wrong there.

    Args:
        infer: pictures `(1, 3, 256, 320)` to answers `(1, A, 6)`.
        images: BGR, of any size.
        people: of each image, annotations with bbox and num_keypoints.
    """
    results: list[dict[str, Any]] = []
    for number, image in enumerate(images):
        filled, scale = letterbox(image)
        boxes, scores = detections(infer(np.ascontiguousarray(filled.transpose(2, 0, 1)[None], np.float32))[0])
        for box, score in zip((boxes / scale).tolist(), scores.tolist(), strict=True):
            results.append({"image_id": number + 1, "category_id": 1, "bbox": box, "score": score})
    truth = [
        {
            "image_id": number + 1,
            "category_id": 1,
            "bbox": a["bbox"],
            "area": a["bbox"][2] * a["bbox"][3],
            "num_keypoints": a["num_keypoints"],
        }
        for number, several in enumerate(people)
        for a in several
    ]
    everybody = _evaluated([dict(a, iscrowd=0) for a in truth], results, len(images))
    labelled = _evaluated([dict(a, iscrowd=int(a["num_keypoints"] == 0)) for a in truth], results, len(images))
    figures = {"AP": everybody[0], "AP50": everybody[1], "AP50_labelled": labelled[1]}
    return {name: round(float(figure), 4) for name, figure in figures.items()}


def _evaluated(truth: list[dict[str, Any]], results: list[dict[str, Any]], images: int) -> Sequence[float]:
    """COCO's summary of detections."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    content = COCO()
    content.dataset = {
        "info": {},
        "images": [{"id": number + 1} for number in range(images)],
        "annotations": [dict(a, id=number + 1) for number, a in enumerate(truth)],
        "categories": [{"id": 1, "name": "person"}],
    }
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints as it goes
        content.createIndex()
        evaluation = COCOeval(content, content.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    summary: Sequence[float] = evaluation.stats
    return summary
