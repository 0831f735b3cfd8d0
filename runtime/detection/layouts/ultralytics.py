"""YOLOv8, YOLO11 and others as ultralytics exports them without NMS: `(1, 4 + C, A)`, boxes in px and class scores.

The letterbox is centred. The best class of a cell counts, as in its predictor.
"""

from __future__ import annotations

import numpy as np

from ..picture import Picture
from . import Candidates, Graph, Layout, Outputs
from ._boxes import corners, strides_of


def reads(graph: Graph) -> bool:
    shape = graph.only
    detects = graph.metadata.get("task", "detect") == "detect"
    return detects and len(shape) == 3 and shape[0] == 1 and shape[1] > 4 and bool(strides_of(graph.size, shape[2]))


def decode(outputs: Outputs, size: tuple[int, int], score: float) -> Candidates:
    (raw,) = (output[0] for output in outputs.values())
    best = raw[4:].max(axis=0)
    cells = np.flatnonzero(best > score)
    boxes = corners(raw[:4, cells].T.astype(np.float32))
    return Candidates(boxes, best[cells].astype(np.float32), raw[4:, cells].argmax(axis=0).astype(np.int64))


LAYOUT = Layout(
    name="ultralytics",
    summary="YOLO as ultralytics exports it without NMS, (1, 4 + classes, cells)",
    source="ultralytics 8.4 (engine/exporter.py, utils/nms.py)",
    picture=Picture(color="rgb", placement="center", scale=1 / 255, rounding="even"),
    reads=reads,
    decode=decode,
    classes=lambda graph: graph.only[1] - 4,
    nms=0.7,
)
