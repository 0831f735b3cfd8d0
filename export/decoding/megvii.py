"""MSPN's maps as MMPose decodes them, see `posert.runtime.pose.heads.megvii`."""

import numpy as np

from ...runtime.bundle.contract import Contract
from . import GraphRule
from ._nodes import Nodes
from ._peaks import ZERO, between, blur, first_highest, flattened, highest, only_where, ratio, unless_empty, uphill

_AMPLITUDE = 255  # of the maps


def _decode(n: Nodes, outputs: tuple[str, ...], c: Contract) -> tuple[str, str, str]:
    size = (c.heatmap_height, c.heatmap_width)
    before = first_highest(n, flattened(n, outputs[0]), size[0] * size[1])[1]
    blurred = blur(n, outputs[0], len(c.keypoints), (c.kernel, c.kernel), "zero")
    top = n.reduce("ReduceMax", flattened(n, blurred), 2)
    scale = n("Unsqueeze", ratio(n, before, top), np.array([3], np.int64))
    peak = highest(n, n("Mul", blurred, scale), size)
    inside = n("And", between(n, peak.x, 1, size[1] - 1), between(n, peak.y, 1, size[0] - 1))
    x, y = (
        n("Add", at, only_where(n, inside, n("Add", n("Mul", sign, np.float32(0.25)), np.float32(0.5))))
        for at, sign in zip((peak.x, peak.y), uphill(n, peak), strict=True)
    )
    x, y = unless_empty(n, peak.value, x, y)
    scored = n("Add", n("Div", peak.value, np.float32(_AMPLITUDE)), np.float32(0.5))
    return x, y, n("Where", n("Equal", top, ZERO), ZERO, scored)


RULE = GraphRule("megvii", _decode)
