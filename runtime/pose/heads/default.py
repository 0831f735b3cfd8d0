"""A quarter cell from the highest cell towards the higher neighbour."""

from . import Head
from ._maps import Double, Float, mean_of_maps, one_map_per_joint, per_map
from ._peaks import highest, points, uphill


def _default(maps: Float, kernel: int) -> tuple[Double, Float]:
    x, y, value = highest(maps)
    return points(x, y) + 0.25 * uphill(maps, x, y)[0], value


HEAD = Head(
    name="default",
    summary="a quarter cell towards the higher neighbour",
    source="HRNet repository; MMPose 0.x post_process='default'",
    shapes=one_map_per_joint,
    decode=per_map(_default),
    merge=mean_of_maps,
    cuda=1,
)
