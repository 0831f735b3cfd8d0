"""DARK with UDP's differences, as MMPose 1.x computes it: zeros around the map, which keeps its maximum."""

import numpy as np

from ..blur import blurred_windows
from . import Head
from ._peaks import Double, Float, highest, newton_3x3, per_map, points, rescale

_LOW, _HIGH = 0.001, 50  # what the logarithm is taken of is held between them


@per_map
def _decode(maps: Float, kernel: int) -> tuple[Double, Float]:
    x, y, value = highest(maps)
    xy = points(x, y)
    at = np.flatnonzero(value > 0)
    maps, value_at = maps[at], value[at]
    blurred = blurred_windows(maps, x[at], y[at], kernel, "zero", 1)
    # The scale adds a constant to the logarithm, so it matters only where a limit is passed.
    limited = (blurred.min(axis=(1, 2)) < _LOW) | (value_at > _HIGH)
    rescale(blurred, np.flatnonzero(limited), maps, value_at, kernel)
    xy[at] -= newton_3x3(np.log(np.clip(blurred, _LOW, _HIGH)))
    return xy, value


HEAD = Head(
    name="udp_heatmap",
    summary="DARK with UDP's differences, zeros around the map",
    source="Huang et al., CVPR 2020; MMPose 1.x UDPHeatmap",
    decode=_decode,
    blurs=True,
    cuda=9,
)
