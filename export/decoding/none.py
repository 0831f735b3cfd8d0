"""The highest cell itself, see `posert.runtime.pose.heads.none`."""

from ...runtime.bundle.contract import Contract
from . import GraphRule
from ._nodes import Nodes
from ._peaks import highest, unless_empty


def _decode(n: Nodes, outputs: tuple[str, ...], c: Contract) -> tuple[str, str, str]:
    peak = highest(n, outputs[0], (c.heatmap_height, c.heatmap_width))
    x, y = unless_empty(n, peak.value, peak.x, peak.y)
    return x, y, peak.value


RULE = GraphRule("none", _decode)
