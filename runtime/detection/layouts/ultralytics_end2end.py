"""YOLOv10, YOLO26 and what ultralytics exports with nms=True: `(1, N, 6)`, box in px, score and class."""

from __future__ import annotations

import numpy as np

from ..picture import Picture
from . import Candidates, Graph, Layout, Outputs
from ._boxes import strides_of


def reads(graph: Graph) -> bool:
    shape = graph.only
    detects = graph.metadata.get("task", "detect") == "detect"
    return detects and len(shape) == 3 and shape[0] == 1 and shape[2] == 6


def fits(graph: Graph) -> bool:
    # As many rows as YOLOX of one class has cells would be a strange number of boxes.
    return "task" in graph.metadata or not strides_of(graph.size, graph.only[1])


def decode(outputs: Outputs, size: tuple[int, int], score: float) -> Candidates:
    (rows,) = (output[0] for output in outputs.values())
    found = rows[rows[:, 4] > score].astype(np.float32)  # rows that fill up have the score 0
    return Candidates(found[:, :4], found[:, 4], found[:, 5].astype(np.int64))


LAYOUT = Layout(
    name="ultralytics_end2end",
    summary="YOLO as ultralytics exports it end to end or with NMS, (1, boxes, 6)",
    source="ultralytics 8.4 (engine/exporter.py, utils/nms.py)",
    picture=Picture(color="rgb", placement="center", scale=1 / 255, rounding="even"),
    reads=reads,
    decode=decode,
    fits=fits,
)
