"""YOLOX as its project exports it: offsets and logarithms of sizes in cells, which the grids of the levels turn to px.

The best class of a cell counts, as in `postprocess` of yolox/utils/boxes.py.
"""

from __future__ import annotations

import numpy as np

from . import Candidates, Layout, Outputs
from ._boxes import corners, grid, strides_of
from ._yolox import PICTURE, SOURCE, classes, fits, reads, sure


def decode(outputs: Outputs, size: tuple[int, int], score: float) -> Candidates:
    (raw,) = (output[0] for output in outputs.values())
    cells, best, label = sure(raw, score)
    xy, stride = grid(size, strides_of(size, len(raw)))
    boxes = raw[cells, :4].astype(np.float32)
    centre = (boxes[:, :2] + xy[cells]) * stride[cells]
    with np.errstate(over="ignore"):  # an infinite box is reported as one
        extent = np.exp(boxes[:, 2:]) * stride[cells]
    return Candidates(corners(np.concatenate([centre, extent], axis=1)), best, label)


LAYOUT = Layout(
    name="yolox",
    summary="YOLOX with boxes as offsets in its grids, (1, cells, 5 + classes)",
    source=SOURCE,
    picture=PICTURE,
    reads=reads,
    decode=decode,
    classes=classes,
    fits=lambda graph: fits(graph, decoded=False),
    nms=0.7,
)
