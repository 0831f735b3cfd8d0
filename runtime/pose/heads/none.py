"""The highest cell itself."""

from . import Head
from ._maps import Double, Float, mean_of_maps, one_map_per_joint, per_map
from ._peaks import highest, points


def _none(maps: Float, kernel: int) -> tuple[Double, Float]:
    x, y, value = highest(maps)
    return points(x, y), value


HEAD = Head(
    name="none",
    summary="the highest cell",
    source="HRNet repository without POST_PROCESS",
    shapes=one_map_per_joint,
    decode=per_map(_none),
    merge=mean_of_maps,
    cuda=0,
)
