"""UDP's combined maps: three channels per joint, its class and the offsets to it along x and y."""

import cv2
import numpy as np

from ...bundle.contract import Contract
from ..blur import blur_matrix
from . import Head, Outputs
from ._combined import CHANNELS, RADIUS, merge, shapes
from ._peaks import Double, Float, highest, points


def _decode(outputs: Outputs, contract: Contract) -> tuple[Double, Float]:
    (maps,) = outputs
    people, channels, height, width = maps.shape
    joints, kernel = channels // CHANNELS, contract.kernel
    maps = maps.reshape(people * joints, CHANNELS, height, width)
    # OpenCV's single precision decides the score's last digits in the reference
    size = (2 * kernel + 1, 2 * kernel + 1)
    x, y, value = highest(np.stack([cv2.GaussianBlur(one, size, 0) for one in maps[:, 0]]))
    # the offsets are read at one cell, so only that one is blurred
    at = np.arange(len(maps))
    rows = blur_matrix(height, kernel, "reflect")[y][:, None, None, :]
    columns = blur_matrix(width, kernel, "reflect")[x][:, None, :, None]
    offset = (rows @ maps[at, 1:] @ columns)[:, :, 0, 0]
    xy = points(x, y) + RADIUS * height * offset
    xy[value <= 0] = -1
    return xy.reshape(people, joints, 2), value.reshape(people, joints)


HEAD = Head(
    name="udp_combined",
    summary="the highest cell of the blurred class map, moved by the offset maps; three channels per joint",
    source="Huang et al., CVPR 2020; MMPose 0.x use_udp with CombinedTarget",
    shapes=shapes,
    decode=_decode,
    blurs=True,
    merge=merge,
    cuda=4,
)
