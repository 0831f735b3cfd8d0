"""DARK with UDP's borders and differences (Huang et al., CVPR 2020), as MMPose 0.x computes it."""

import numpy as np

from ..blur import blurred_windows
from . import Head
from ._peaks import Double, Float, highest, newton, per_map, points


@per_map
def _decode(maps: Float, kernel: int) -> tuple[Double, Float]:
    x, y, value = highest(maps)
    xy = points(x, y)
    at = np.flatnonzero(value > 0)
    log = np.log(np.clip(blurred_windows(maps[at], x[at], y[at], kernel, "reflect", 1), 0.001, 50))
    slope = 0.5 * np.stack([log[:, 1, 2] - log[:, 1, 0], log[:, 2, 1] - log[:, 0, 1]], axis=1)
    epsilon = np.finfo(np.float32).eps
    dxx = log[:, 1, 2] - 2 * log[:, 1, 1] + log[:, 1, 0] + epsilon
    dyy = log[:, 2, 1] - 2 * log[:, 1, 1] + log[:, 0, 1] + epsilon
    dxy = 0.5 * (
        log[:, 2, 2] - log[:, 1, 2] - log[:, 2, 1] + 2 * log[:, 1, 1] - log[:, 1, 0] - log[:, 0, 1] + log[:, 0, 0]
    )
    xy[at] -= newton(dxx, dyy, dxy, slope)
    return xy, value


HEAD = Head(
    name="udp",
    summary="DARK with other borders and differences",
    source="Huang et al., CVPR 2020; MMPose 0.x use_udp with GaussianHeatmap",
    decode=_decode,
    cuda=3,
)
