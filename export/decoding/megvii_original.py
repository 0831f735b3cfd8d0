"""MSPN's maps as its repository decodes them, see `posert.runtime.pose.heads.megvii_original`."""

import numpy as np

from ...runtime.bundle.contract import Contract
from . import GraphRule
from ._nodes import Nodes
from ._peaks import ONE, ZERO, blur, cells, first_highest, flattened, highest

_AMPLITUDE = 255  # of the maps
_MARGIN = 10  # cells by which the blurred map is larger on each side


def _decode(n: Nodes, outputs: tuple[str, ...], c: Contract) -> tuple[str, str, str]:
    height, width = c.heatmap_height, c.heatmap_width
    larger = (height + 2 * _MARGIN, width + 2 * _MARGIN)
    peak = highest(n, blur(n, outputs[0], len(c.keypoints), (c.kernel, c.kernel), "zero", _MARGIN), larger)
    index = np.arange(larger[0] * larger[1], dtype=np.int64).reshape(1, 1, -1)
    rest = n("Where", n("Equal", index, peak.at), ZERO, peak.flat)
    second = first_highest(n, rest, larger[0] * larger[1])[0]
    row = n("Div", second, np.int64(larger[1]))
    column = n("Sub", second, n("Mul", row, np.int64(larger[1])))
    steps = tuple(n("Cast", n("Sub", *pair), to=1) for pair in ((column, peak.column), (row, peak.row)))
    length = n("Sqrt", n("Add", *(n("Mul", step, step) for step in steps)))
    none = n("Less", length, np.float32(1e-3))
    safe = n("Where", none, ONE, length)
    x, y = (
        _held(n, n("Add", at, n("Where", none, ZERO, n("Mul", n("Div", step, safe), np.float32(0.25)))), last)
        for at, step, last in ((peak.x, steps[0], width - 1), (peak.y, steps[1], height - 1))
    )
    nearest = (n("Cast", n("Round", one), to=7) for one in (x, y))
    value = cells(n, flattened(n, outputs[0]), (height, width), *nearest)
    score = n("Add", n("Div", value, np.float32(_AMPLITUDE)), np.float32(0.5))
    return n("Add", x, np.float32(0.5)), n("Add", y, np.float32(0.5)), score


def _held(n: Nodes, at: str, last: int) -> str:
    """A coordinate of the larger map in the map, and not beyond it."""
    inner = n("Sub", at, np.float32(_MARGIN))
    return n("Min", n("Max", inner, ZERO), np.float32(last))


RULE = GraphRule("megvii_original", _decode)
