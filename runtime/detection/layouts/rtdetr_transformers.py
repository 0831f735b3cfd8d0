"""RT-DETR, RT-DETRv2 and D-FINE as the library transformers exports them: a sigmoid for each class of each query.

The Q best of all pairs of a query and a class count, so that a query may give several classes.
"""

from __future__ import annotations

import numpy as np

from ..picture import Picture
from . import Candidates, Layout, Outputs
from ._boxes import sigmoid
from ._transformers import SOURCE, boxes_of, reads


def decode(outputs: Outputs, size: tuple[int, int], score: float) -> Candidates:
    scores = sigmoid(outputs["logits"][0])
    queries, label = np.nonzero(scores > score)
    best = scores[queries, label]
    top = np.argsort(-best, kind="stable")[: len(scores)]
    return Candidates(boxes_of(outputs, queries[top], size), best[top], label[top].astype(np.int64))


LAYOUT = Layout(
    name="rtdetr_transformers",
    summary="RT-DETR or D-FINE as transformers exports it: logits of classes, pred_boxes",
    source=SOURCE.format("rt_detr, models/d_fine"),
    picture=Picture(color="rgb", placement="stretch", scale=1 / 255),
    reads=reads,
    decode=decode,
    classes=lambda graph: int(graph.outputs["logits"].shape[2]),
    fits=lambda graph: graph.mentions("enc_score_head"),
)
