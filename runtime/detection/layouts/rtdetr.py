"""RT-DETR, RT-DETRv2, D-FINE and DEIM as their projects export them: `labels`, `boxes` and `scores`, all `(1, N, ...)`.

The second input, `orig_target_sizes`, says in which px the boxes are: posert asks for those of the input.
"""

from __future__ import annotations

import numpy as np

from ..picture import Picture
from . import Candidates, Graph, Layout, Outputs


def reads(graph: Graph) -> bool:
    return any(tensor.name == "orig_target_sizes" for tensor in graph.inputs) and graph.has(
        labels=(1, None), boxes=(1, None, 4), scores=(1, None)
    )


def decode(outputs: Outputs, size: tuple[int, int], score: float) -> Candidates:
    boxes, scores, labels = (outputs[name][0] for name in ("boxes", "scores", "labels"))
    found = scores > score
    return Candidates(boxes[found].astype(np.float32), scores[found].astype(np.float32), labels[found].astype(np.int64))


LAYOUT = Layout(
    name="rtdetr",
    summary="RT-DETR, D-FINE or DEIM as their projects export them: labels, boxes, scores",
    source="https://github.com/lyuwenyu/RT-DETR (rtdetrv2_pytorch/tools/export_onnx.py), "
    "https://github.com/Peterande/D-FINE (tools/deployment/export_onnx.py)",
    picture=Picture(color="rgb", placement="stretch", scale=1 / 255),
    reads=reads,
    decode=decode,
)
