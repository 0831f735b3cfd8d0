"""DARK with UDP's borders and differences (Huang et al., CVPR 2020), as MMPose 0.x computes it."""

import numpy as np

from ..blur import blurred_windows
from . import Head
from ._peaks import Double, Float, highest, newton_3x3, per_map, points


@per_map
def _decode(maps: Float, kernel: int) -> tuple[Double, Float]:
    x, y, value = highest(maps)
    xy = points(x, y)
    at = np.flatnonzero(value > 0)
    blurred = blurred_windows(maps[at], x[at], y[at], kernel, "reflect", 1)
    xy[at] -= newton_3x3(np.log(np.clip(blurred, 0.001, 50)))
    return xy, value


HEAD = Head(
    name="udp",
    summary="DARK with other borders and differences",
    source="Huang et al., CVPR 2020; MMPose 0.x use_udp with GaussianHeatmap",
    decode=_decode,
    blurs=True,
    cuda=3,
)
