"""The highest cell itself."""

from . import Head
from ._peaks import Double, Float, highest, per_map, points


@per_map
def _decode(maps: Float, kernel: int) -> tuple[Double, Float]:
    x, y, value = highest(maps)
    return points(x, y), value


HEAD = Head(
    name="none",
    summary="the highest cell",
    source="HRNet repository without POST_PROCESS",
    decode=_decode,
    cuda=0,
)
