"""UDP's combined maps as MMPose 1.x reads them, see `posert.runtime.pose.heads.udp_heatmap_combined`."""

from ...runtime.bundle.contract import Contract
from . import GraphRule
from ._combined import RADIUS, channel, class_peak, moved
from ._nodes import Nodes


def _decode(n: Nodes, outputs: tuple[str, ...], c: Contract) -> tuple[str, str, str]:
    offsets = channel(n, outputs[0], c, 1), channel(n, outputs[0], c, 2)
    return moved(n, class_peak(n, outputs[0], c), offsets, RADIUS * max(c.heatmap_width, c.heatmap_height))


RULE = GraphRule("udp_heatmap_combined", _decode)
