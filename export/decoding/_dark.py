"""The Newton step of UDP's DARK, of the cells next to the peak."""

from __future__ import annotations

import numpy as np

from ._nodes import Nodes
from ._peaks import Peak, around, curvature, difference, log_between, newton

_LOW, _HIGH = 0.001, 50  # what the logarithm is taken of is held between them
_PLACES = tuple((column, row) for row in (-1, 0, 1) for column in (-1, 0, 1))


def step_3x3(n: Nodes, blurred: str, peak: Peak, scale: str | None = None) -> tuple[str, str]:
    """The step along x and y; `blurred` are rows `(N, K, h * w)`, which `scale` multiplies."""
    window = around(n, blurred, peak, _PLACES)
    if scale is not None:
        window = [n("Mul", value, scale) for value in window]
    log = [log_between(n, value, _LOW, _HIGH) for value in window]
    slope = difference(n, log[5], log[3], 0.5), difference(n, log[7], log[1], 0.5)
    epsilon = np.float32(np.finfo(np.float32).eps)
    dxx = n("Add", curvature(n, log[5], log[4], log[3]), epsilon)
    dyy = n("Add", curvature(n, log[7], log[4], log[1]), epsilon)
    # log[8] - log[5] - log[7] + 2 log[4] - log[3] - log[1] + log[0], from differences of neighbours
    ends = (n("Sub", log[8], log[5]), n("Sub", log[4], log[7]), n("Sub", log[4], log[3]), n("Sub", log[0], log[1]))
    dxy = n("Mul", n("Add", n("Add", ends[0], ends[1]), n("Add", ends[2], ends[3])), np.float32(0.5))
    return newton(n, dxx, dyy, dxy, slope)
