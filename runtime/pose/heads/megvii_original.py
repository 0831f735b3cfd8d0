"""MSPN's maps as its own repository decodes them: a quarter cell towards the second highest cell."""

import numpy as np

from ..blur import blur
from . import Head
from ._peaks import Double, Float, per_map

_AMPLITUDE = 255  # of the maps
_MARGIN = 10  # cells by which the blurred map is larger on each side


@per_map
def _decode(maps: Float, kernel: int) -> tuple[Double, Float]:
    height, width = maps.shape[1:]
    cells = blur(maps, kernel, "zero", _MARGIN).reshape(len(maps), -1)
    every = np.arange(len(maps))

    def take_highest() -> tuple[Double, Double]:
        index = cells.argmax(axis=1)
        value = cells[every, index]
        cells[every, index] = 0
        y, x = np.divmod(index, width + 2 * _MARGIN)
        return np.stack([x - _MARGIN, y - _MARGIN], axis=1).astype(np.float64), value

    xy, peak = take_highest()
    step = take_highest()[0] - xy
    length = np.linalg.norm(step, axis=1, keepdims=True)
    xy += 0.25 * np.divide(step, length, out=np.zeros_like(step), where=length > 1e-3)
    xy = np.clip(xy, 0, [width - 1, height - 1])
    x, y = np.rint(xy).astype(np.intp).T
    # the score is the map's own value there; a NaN elsewhere shows in the blurred peak only
    value = np.where(np.isfinite(peak), maps[every, y, x], np.float32(np.nan)).astype(np.float32)
    return xy + 0.5, value / np.float32(_AMPLITUDE) + np.float32(0.5)


HEAD = Head(
    name="megvii_original",
    summary="a quarter cell towards the second highest cell, half a cell added; score max / 255 + 0.5",
    source="Megvii's MSPN repository",
    decode=_decode,
    blurs=True,
    cuda=6,
)
