"""UDP's combined maps, see `posert.runtime.pose.heads.udp_combined`."""

from ...runtime.bundle.contract import Contract
from . import GraphRule
from ._combined import RADIUS, channel, class_peak, moved
from ._nodes import Nodes
from ._peaks import blur


def _decode(n: Nodes, outputs: tuple[str, ...], c: Contract) -> tuple[str, str, str]:
    peak, kernels = class_peak(n, outputs[0], c), (c.kernel, c.kernel)
    across, down = (blur(n, channel(n, outputs[0], c, which), len(c.keypoints), kernels, "reflect") for which in (1, 2))
    return moved(n, peak, (across, down), RADIUS * c.heatmap_height)


RULE = GraphRule("udp_combined", _decode)
