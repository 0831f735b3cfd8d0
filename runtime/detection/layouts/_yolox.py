"""`(1, A, 5 + C)`: YOLOX's box, objectness and class scores of every cell of every level."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..picture import Picture
from . import Graph
from ._boxes import strides_of

SOURCE = "https://github.com/Megvii-BaseDetection/YOLOX, tools/export_onnx.py and yolox/utils"
PICTURE = Picture(color="bgr", placement="top_left", rounding="down", one_ratio=True)


def reads(graph: Graph) -> bool:
    shape = graph.only
    return len(shape) == 3 and shape[0] == 1 and shape[2] > 5 and bool(strides_of(graph.size, shape[1]))


def classes(graph: Graph) -> int:
    return graph.only[2] - 5


def fits(graph: Graph, decoded: bool) -> bool:
    """Whether boxes are decoded in the graph: their centres then span the picture, while offsets are a few cells."""
    if "task" in graph.metadata:  # ultralytics'
        return False
    (raw,) = graph.outputs.values()
    return bool(np.ptp(raw[0, :, 0].astype(np.float32)) > graph.size[1] / 2) == decoded


def sure(raw: NDArray[Any], score: float) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.int64]]:
    """Cells whose best class scored enough, that score and that class."""
    cells = np.flatnonzero(raw[:, 4] > score)  # no class scores more than the objectness
    rows = raw[cells, 5:]
    label = rows.argmax(axis=1)
    best = (raw[cells, 4] * rows[np.arange(len(rows)), label]).astype(np.float32)
    found = best > score
    return cells[found], best[found], label[found].astype(np.int64)
