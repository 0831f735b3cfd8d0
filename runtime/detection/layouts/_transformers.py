"""`logits (1, Q, C)` and `pred_boxes (1, Q, 4)`: detectors of transformers, boxes relative to the picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import Graph, Outputs
from ._boxes import corners

SOURCE = "transformers 5 (models/{}), exported by torch.onnx or optimum"


def reads(graph: Graph) -> bool:
    return graph.has(logits=(1, None, None), pred_boxes=(1, None, 4))


def boxes_of(outputs: Outputs, queries: NDArray[np.intp], size: tuple[int, int]) -> NDArray[np.float32]:
    """Boxes of these queries, xyxy px of the input of this (height, width)."""
    relative = corners(outputs["pred_boxes"][0, queries].astype(np.float32))
    return relative * np.array([size[1], size[0]] * 2, np.float32)
