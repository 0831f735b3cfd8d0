"""YOLOX exported with --decode_in_inference: the same shape as without it, but boxes are px."""

from __future__ import annotations

import numpy as np

from . import Candidates, Layout, Outputs
from ._boxes import corners
from ._yolox import PICTURE, SOURCE, classes, fits, reads, sure


def decode(outputs: Outputs, size: tuple[int, int], score: float) -> Candidates:
    (raw,) = (output[0] for output in outputs.values())
    cells, best, label = sure(raw, score)
    return Candidates(corners(raw[cells, :4].astype(np.float32)), best, label)


LAYOUT = Layout(
    name="yolox_decoded",
    summary="YOLOX with boxes decoded in the graph, (1, cells, 5 + classes)",
    source=SOURCE,
    picture=PICTURE,
    reads=reads,
    decode=decode,
    classes=classes,
    fits=lambda graph: fits(graph, decoded=True),
    nms=0.7,
)
