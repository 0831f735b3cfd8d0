"""A quarter cell from the highest cell towards the higher neighbour."""

from . import Head
from ._peaks import Double, Float, highest, per_map, points, uphill


@per_map
def _decode(maps: Float, kernel: int) -> tuple[Double, Float]:
    x, y, value = highest(maps)
    return points(x, y) + 0.25 * uphill(maps, x, y)[0], value


HEAD = Head(
    name="default",
    summary="a quarter cell towards the higher neighbour",
    source="HRNet repository; MMPose 0.x post_process='default'",
    decode=_decode,
    cuda=1,
)
