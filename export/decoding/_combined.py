"""What the graph forms share that read UDP's combined maps: per joint its class and the offsets along x and y."""

from __future__ import annotations

import numpy as np

from ...runtime.bundle.contract import Contract
from ._nodes import Nodes
from ._peaks import Peak, blur, flattened, highest, unless_empty

CHANNELS = 3  # per joint: class, x, y
RADIUS = 0.0546875  # of a side of the map: the radius within which offsets are trained


def channel(n: Nodes, maps: str, c: Contract, which: int) -> str:
    """One of the three maps of each joint, `(N, K, h, w)`."""
    return n("Gather", maps, np.arange(which, CHANNELS * len(c.keypoints), CHANNELS, dtype=np.int64), axis=1)


def class_peak(n: Nodes, maps: str, c: Contract) -> Peak:
    """The highest cell of each joint's blurred class map."""
    size = 2 * c.kernel + 1
    blurred = blur(n, channel(n, maps, c, 0), len(c.keypoints), (size, size), "reflect")
    return highest(n, blurred, (c.heatmap_height, c.heatmap_width))


def moved(n: Nodes, peak: Peak, offsets: tuple[str, str], radius: float) -> tuple[str, str, str]:
    """The peak, moved by what the offset maps say at its cell."""
    x, y = (
        n("Add", at, n("Mul", n("GatherElements", flattened(n, maps), peak.at, axis=2), np.float32(radius)))
        for at, maps in zip((peak.x, peak.y), offsets, strict=True)
    )
    x, y = unless_empty(n, peak.value, x, y)
    return x, y, peak.value
