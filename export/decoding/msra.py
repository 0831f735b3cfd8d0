"""A quarter cell along each axis by itself, see `posert.runtime.pose.heads.msra`."""

import numpy as np

from ...runtime.bundle.contract import Contract
from . import GraphRule
from ._nodes import Nodes
from ._peaks import between, highest, only_where, unless_empty, uphill


def _decode(n: Nodes, outputs: tuple[str, ...], c: Contract) -> tuple[str, str, str]:
    width, height = c.heatmap_width, c.heatmap_height
    peak = highest(n, outputs[0], (height, width))
    inside = (
        n("And", between(n, peak.x, 1, width - 1), between(n, peak.y, 0, height)),
        n("And", between(n, peak.y, 1, height - 1), between(n, peak.x, 0, width)),
    )
    x, y = (
        n("Add", at, n("Mul", only_where(n, free, sign), np.float32(0.25)))
        for at, free, sign in zip((peak.x, peak.y), inside, uphill(n, peak), strict=True)
    )
    x, y = unless_empty(n, peak.value, x, y)
    return x, y, peak.value


RULE = GraphRule("msra", _decode)
