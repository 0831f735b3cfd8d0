"""SimCC with DARK, see `posert.runtime.pose.heads.simcc_dark`."""

import numpy as np

from ...runtime.bundle.contract import Contract
from . import GraphRule
from ._nodes import Nodes
from ._peaks import blur, curvature, difference, first_highest, log_between, picked, ratio, unless_empty

_LOW, _HIGH = 0.001, 50  # what the logarithm is taken of is held between them
_REACH = np.arange(-2, 3, dtype=np.int64).reshape(1, 1, -1)


def _decode(n: Nodes, outputs: tuple[str, ...], c: Contract) -> tuple[str, str, str]:
    lengths, kernels = (c.heatmap_width, c.heatmap_height), (c.kernel, c.kernel_y or c.kernel)
    found = [_axis(n, *one, len(c.keypoints)) for one in zip(outputs, lengths, kernels, strict=True)]
    score = n("Min", *(value for _, value in found))
    x, y = unless_empty(n, score, *(at for at, _ in found))
    return x, y, score


def _axis(n: Nodes, vectors: str, length: int, kernel: int, joints: int) -> tuple[str, str]:
    """The place of the peak along one axis, and its value."""
    at, value = first_highest(n, vectors, length)
    as_map = n("Unsqueeze", vectors, np.array([2], np.int64))
    blurred = n("Squeeze", blur(n, as_map, joints, (1, kernel), "zero"), np.array([2], np.int64))
    scale = ratio(n, value, n.reduce("ReduceMax", blurred, 2))
    cells = n("Max", n("Min", n("Add", at, _REACH), np.int64(length - 1)), np.int64(0))
    window = n("Mul", n("GatherElements", blurred, cells, axis=2), scale)
    log = [log_between(n, one, _LOW, _HIGH) for one in picked(n, window, 5)]
    curved = n("Add", n("Mul", curvature(n, log[4], log[2], log[0]), np.float32(0.25)), np.float32(1e-9))
    step = n("Div", difference(n, log[3], log[1], 0.5), curved)
    return n("Sub", n("Cast", at, to=1), step), value


RULE = GraphRule("simcc_dark", _decode)
