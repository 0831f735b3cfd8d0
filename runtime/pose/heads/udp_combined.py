"""UDP's combined maps: three channels per joint, its class and the offsets to it along x and y."""

import cv2
import numpy as np

from ...bundle.contract import Contract
from ..blur import blur_matrix
from ..flip import merge
from . import Head, Outputs, Shapes
from ._peaks import Double, Float, highest, points

_CHANNELS = 3  # per joint: class, x, y
_RADIUS = 0.0546875  # of the map's height: the radius within which offsets are trained


def _shapes(contract: Contract) -> Shapes:
    return ((_CHANNELS * len(contract.keypoints), contract.heatmap_height, contract.heatmap_width),)


def _decode(outputs: Outputs, contract: Contract) -> tuple[Double, Float]:
    (maps,) = outputs
    people, channels, height, width = maps.shape
    joints, kernel = channels // _CHANNELS, contract.kernel
    maps = maps.reshape(people * joints, _CHANNELS, height, width)
    # OpenCV's single precision decides the score's last digits in the reference
    size = (2 * kernel + 1, 2 * kernel + 1)
    x, y, value = highest(np.stack([cv2.GaussianBlur(one, size, 0) for one in maps[:, 0]]))
    # the offsets are read at one cell, so only that one is blurred
    at = np.arange(len(maps))
    rows = blur_matrix(height, kernel, "reflect")[y][:, None, None, :]
    columns = blur_matrix(width, kernel, "reflect")[x][:, None, :, None]
    offset = (rows @ maps[at, 1:] @ columns)[:, :, 0, 0]
    xy = points(x, y) + _RADIUS * height * offset
    xy[value <= 0] = -1
    return xy.reshape(people, joints, 2), value.reshape(people, joints)


def _merge(outputs: Outputs, contract: Contract) -> Outputs:
    """In a mirror image the offset along x points the other way."""
    return (merge(outputs[0], contract.flip_index, contract.flip_shift, signs=(1, -1, 1)),)


HEAD = Head(
    name="udp_combined",
    summary="the highest cell of the blurred class map, moved by the offset maps; three channels per joint",
    source="Huang et al., CVPR 2020; MMPose 0.x use_udp with CombinedTarget",
    shapes=_shapes,
    decode=_decode,
    merge=_merge,
    cuda=4,
)
