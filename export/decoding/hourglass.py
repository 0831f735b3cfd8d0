"""A quarter cell, and half a cell added, see `posert.runtime.pose.heads.hourglass`."""

import numpy as np

from ...runtime.bundle.contract import Contract
from . import GraphRule
from ._nodes import Nodes
from ._peaks import ONE, around, highest, unless_empty


def _decode(n: Nodes, outputs: tuple[str, ...], c: Contract) -> tuple[str, str, str]:
    peak = highest(n, n("Min", outputs[0], ONE), (c.heatmap_height, c.heatmap_width))
    # at the border the nearest cell is the peak itself, as in the rule
    right, below, left, above = around(n, peak.flat, peak, ((1, 0), (0, 1), (-1, 0), (0, -1)))
    x, y = (
        n("Add", at, n("Where", n("Greater", after, before), np.float32(0.75), np.float32(0.25)))
        for at, after, before in ((peak.x, right, left), (peak.y, below, above))
    )
    x, y = unless_empty(n, peak.value, x, y)
    return x, y, peak.value


RULE = GraphRule("hourglass", _decode)
