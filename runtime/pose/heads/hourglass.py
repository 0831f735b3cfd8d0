"""A quarter cell towards the higher neighbour, half a cell added."""

import numpy as np

from . import Head
from ._peaks import Double, Float, highest, per_map, points


@per_map
def _decode(maps: Float, kernel: int) -> tuple[Double, Float]:
    peak = maps.max(axis=(1, 2))
    maps = np.minimum(maps, 1)
    height, width = maps.shape[1:]
    x, y, value = highest(maps)
    value[np.isposinf(peak)] = np.inf  # which the limit of 1 would hide
    every = np.arange(len(maps))
    # At the border the cell itself stands for the neighbour that is not there; equal neighbours count as downhill.
    right = maps[every, y, np.minimum(x + 1, width - 1)] > maps[every, y, np.maximum(x - 1, 0)]
    below = maps[every, np.minimum(y + 1, height - 1), x] > maps[every, np.maximum(y - 1, 0), x]
    xy = points(x, y)
    xy += np.where(np.stack([right, below], axis=1), 0.75, 0.25)
    xy[value <= 0] = -1
    return xy, value


HEAD = Head(
    name="hourglass",
    summary="a quarter cell towards the higher neighbour, half a cell added",
    source="Princeton's stacked hourglass repository",
    decode=_decode,
    cuda=7,
)
