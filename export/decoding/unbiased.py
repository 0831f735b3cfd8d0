"""DARK, see `posert.runtime.pose.heads.unbiased`."""

import numpy as np

from ...runtime.bundle.contract import Contract
from . import GraphRule
from ._nodes import Nodes
from ._peaks import (
    around,
    between,
    blur,
    curvature,
    difference,
    flattened,
    highest,
    log_between,
    newton,
    only_where,
    ratio,
    unless_empty,
)

_LOG_FLOOR = 1e-10
_PLACES = (
    (-2, 0),
    (-1, 0),
    (0, 0),
    (1, 0),
    (2, 0),
    (0, -2),
    (0, -1),
    (0, 1),
    (0, 2),
    (-1, -1),
    (1, -1),
    (-1, 1),
    (1, 1),
)


def _decode(n: Nodes, outputs: tuple[str, ...], c: Contract) -> tuple[str, str, str]:
    size = (c.heatmap_height, c.heatmap_width)
    peak = highest(n, outputs[0], size)
    blurred = flattened(n, blur(n, outputs[0], len(c.keypoints), (c.kernel, c.kernel), "zero"))
    scale = ratio(n, peak.value, n.reduce("ReduceMax", blurred, 2))
    log = {
        place: log_between(n, n("Mul", value, scale), _LOG_FLOOR, None)
        for place, value in zip(_PLACES, around(n, blurred, peak, _PLACES), strict=True)
    }
    slope = difference(n, log[1, 0], log[-1, 0], 0.5), difference(n, log[0, 1], log[0, -1], 0.5)
    dxx, dyy = (
        n("Mul", curvature(n, log[after], log[0, 0], log[before]), np.float32(0.25))
        for after, before in (((2, 0), (-2, 0)), ((0, 2), (0, -2)))
    )
    dxy = difference(n, n("Sub", log[1, 1], log[-1, 1]), n("Sub", log[1, -1], log[-1, -1]), 0.25)
    inside = n("And", between(n, peak.x, 1, size[1] - 2), between(n, peak.y, 1, size[0] - 2))
    x, y = (
        n("Sub", at, only_where(n, inside, step))
        for at, step in zip((peak.x, peak.y), newton(n, dxx, dyy, dxy, slope), strict=True)
    )
    x, y = unless_empty(n, peak.value, x, y)
    return x, y, peak.value


RULE = GraphRule("unbiased", _decode)
