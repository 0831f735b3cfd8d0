"""DETR, YOLOS and Table Transformer as the library transformers exports them: softmax over the classes and "no object".

Its own processor keeps the sides' ratio, with the shorter side at 800 px; the input's size is fixed here, and boxes are
relative to the picture, so it is stretched.
"""

from __future__ import annotations

import numpy as np

from ..picture import Picture
from . import Candidates, Graph, Layout, Outputs
from ._transformers import SOURCE, boxes_of, reads


def decode(outputs: Outputs, size: tuple[int, int], score: float) -> Candidates:
    logits = outputs["logits"][0].astype(np.float32)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores = odds[:, :-1] / odds.sum(axis=1, keepdims=True)  # the last class is "no object"
    label = scores.argmax(axis=1)
    best = scores[np.arange(len(scores)), label]
    found = np.flatnonzero(best > score)
    return Candidates(boxes_of(outputs, found, size), best[found], label[found].astype(np.int64))


def fits(graph: Graph) -> bool:
    # Conditional DETR has the same classifier, but scores by a sigmoid.
    mask = any(tensor.name == "pixel_mask" for tensor in graph.inputs)
    return (mask or graph.mentions("class_labels_classifier")) and not graph.mentions("ref_point_head")


LAYOUT = Layout(
    name="detr",
    summary="DETR as transformers exports it: logits of classes and no object, pred_boxes",
    source=SOURCE.format("detr"),
    picture=Picture(
        color="rgb", placement="stretch", scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    ),
    reads=reads,
    decode=decode,
    classes=lambda graph: int(graph.outputs["logits"].shape[2]) - 1,
    fits=fits,
)
