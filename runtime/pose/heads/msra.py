"""A quarter cell from the highest cell towards the higher neighbour, along each axis by itself, as in MMPose 1.x."""

import numpy as np

from . import Head
from ._peaks import Double, Float, highest, neighbours, per_map, points


@per_map
def _decode(maps: Float, kernel: int) -> tuple[Double, Float]:
    x, y, value = highest(maps)
    height, width = maps.shape[1:]
    # Unlike the rule `default`, a cell near one border still moves along the other axis.
    inside = np.stack([(x > 1) & (x < width - 1) & (y > 0), (y > 1) & (y < height - 1) & (x > 0)], axis=1)
    around = neighbours(maps, x, y)
    return points(x, y) + 0.25 * np.sign(around[:, :2] - around[:, 2:]) * inside, value


HEAD = Head(
    name="msra",
    summary="a quarter cell towards the higher neighbour, along each axis by itself",
    source="MMPose 1.x MSRAHeatmap",
    decode=_decode,
    cuda=8,
)
