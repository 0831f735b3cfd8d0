"""DARK: a Newton step on the logarithm of the blurred map (Zhang et al., CVPR 2020)."""

import numpy as np

from ..blur import blurred_windows
from . import Head
from ._peaks import Double, Float, highest, newton, per_map, points, rescale

_LOG_FLOOR = 1e-10


@per_map
def _decode(maps: Float, kernel: int) -> tuple[Double, Float]:
    height, width = maps.shape[1:]
    x, y, value = highest(maps)
    xy = points(x, y)
    at = np.flatnonzero((x > 1) & (x < width - 2) & (y > 1) & (y < height - 2))
    blurred = blurred_windows(maps[at], x[at], y[at], kernel, "zero", 2)
    # The reference scales the blurred map to the old maximum. That adds a constant to the logarithm, so it is only
    # done where some value of the window lies under the floor of the logarithm.
    rescale(blurred, np.flatnonzero(blurred.min(axis=(1, 2)) < _LOG_FLOOR), maps[at], value[at], kernel)
    log = np.log(np.maximum(blurred, _LOG_FLOOR))
    slope = 0.5 * np.stack([log[:, 2, 3] - log[:, 2, 1], log[:, 3, 2] - log[:, 1, 2]], axis=1)
    dxx = 0.25 * (log[:, 2, 4] - 2 * log[:, 2, 2] + log[:, 2, 0])
    dyy = 0.25 * (log[:, 4, 2] - 2 * log[:, 2, 2] + log[:, 0, 2])
    dxy = 0.25 * (log[:, 3, 3] - log[:, 1, 3] - log[:, 3, 1] + log[:, 1, 1])
    xy[at] -= newton(dxx, dyy, dxy, slope)
    return xy, value


HEAD = Head(
    name="unbiased",
    summary="a Newton step on the logarithm of the blurred map (DARK)",
    source="Zhang et al., CVPR 2020; MMPose post_process='unbiased'",
    decode=_decode,
    blurs=True,
    cuda=2,
)
