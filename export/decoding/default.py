"""A quarter cell towards the higher neighbour, see `posert.runtime.pose.heads.default`."""

import numpy as np

from ...runtime.bundle.contract import Contract
from . import GraphRule
from ._nodes import Nodes
from ._peaks import between, highest, only_where, unless_empty, uphill


def _decode(n: Nodes, outputs: tuple[str, ...], c: Contract) -> tuple[str, str, str]:
    peak = highest(n, outputs[0], (c.heatmap_height, c.heatmap_width))
    inside = n("And", between(n, peak.x, 1, c.heatmap_width - 1), between(n, peak.y, 1, c.heatmap_height - 1))
    x, y = (
        n("Add", at, n("Mul", only_where(n, inside, sign), np.float32(0.25)))
        for at, sign in zip((peak.x, peak.y), uphill(n, peak), strict=True)
    )
    x, y = unless_empty(n, peak.value, x, y)
    return x, y, peak.value


RULE = GraphRule("default", _decode)
