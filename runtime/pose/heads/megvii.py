"""MSPN's maps as MMPose decodes them: a quarter cell on the blurred map, half a cell added."""

import numpy as np

from ..blur import blur
from . import Head
from ._peaks import Double, Float, highest, per_map, points, uphill

_AMPLITUDE = 255  # of the maps


@per_map
def _decode(maps: Float, kernel: int) -> tuple[Double, Float]:
    peak_before = highest(maps)[2].astype(np.float64)
    blurred = blur(maps, kernel, "zero").astype(np.float32)
    peak = blurred.max(axis=(1, 2))
    scale = np.divide(peak_before, peak, out=np.ones_like(peak_before), where=peak != 0)
    blurred = (blurred * scale[:, None, None]).astype(np.float32)
    x, y, value = highest(blurred)
    step, inside = uphill(blurred, x, y)
    xy = points(x, y) + 0.25 * step + 0.5 * inside[:, None]
    # a map of zeros has no score in the reference (0 / 0); here it has 0
    score = np.where(peak != 0, value / np.float32(_AMPLITUDE) + np.float32(0.5), np.float32(0))
    return xy, score


HEAD = Head(
    name="megvii",
    summary="a quarter cell on the blurred map, half a cell added; score max / 255 + 0.5",
    source="MMPose post_process='megvii'",
    decode=_decode,
    blurs=True,
    cuda=5,
)
