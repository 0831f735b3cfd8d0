"""The highest cell of a vector along x and of one along y, see `posert.runtime.pose.heads.simcc`."""

from ...runtime.bundle.contract import Contract
from . import GraphRule
from ._nodes import Nodes
from ._peaks import first_highest, unless_empty


def _decode(n: Nodes, outputs: tuple[str, ...], c: Contract) -> tuple[str, str, str]:
    (column, along_x), (row, along_y) = (
        first_highest(n, vectors, length)
        for vectors, length in zip(outputs, (c.heatmap_width, c.heatmap_height), strict=True)
    )
    score = n("Min", along_x, along_y)
    x, y = unless_empty(n, score, n("Cast", column, to=1), n("Cast", row, to=1))
    return x, y, score


RULE = GraphRule("simcc", _decode)
