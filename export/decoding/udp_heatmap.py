"""DARK with UDP's differences and zeros around the map, see `posert.runtime.pose.heads.udp_heatmap`."""

from ...runtime.bundle.contract import Contract
from . import GraphRule
from ._dark import step_3x3
from ._nodes import Nodes
from ._peaks import blur, flattened, highest, ratio, unless_empty


def _decode(n: Nodes, outputs: tuple[str, ...], c: Contract) -> tuple[str, str, str]:
    peak = highest(n, outputs[0], (c.heatmap_height, c.heatmap_width))
    blurred = flattened(n, blur(n, outputs[0], len(c.keypoints), (c.kernel, c.kernel), "zero"))
    scale = ratio(n, peak.value, n.reduce("ReduceMax", blurred, 2))
    across, down = step_3x3(n, blurred, peak, scale)
    x, y = unless_empty(n, peak.value, n("Sub", peak.x, across), n("Sub", peak.y, down))
    return x, y, peak.value


RULE = GraphRule("udp_heatmap", _decode)
