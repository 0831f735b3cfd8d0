"""UDP's combined maps as MMPose 1.x reads them: the offsets are not blurred, and the radius is of the longer side."""

import cv2
import numpy as np

from ...bundle.contract import Contract
from . import Head, Outputs
from ._combined import CHANNELS, RADIUS, merge, shapes
from ._peaks import Double, Float, highest, points


def _decode(outputs: Outputs, contract: Contract) -> tuple[Double, Float]:
    (maps,) = outputs
    people, channels, height, width = maps.shape
    joints = channels // CHANNELS
    maps = maps.reshape(people * joints, CHANNELS, height, width)
    size = (2 * contract.kernel + 1, 2 * contract.kernel + 1)
    # OpenCV's single precision decides the score's last digits in the reference
    x, y, value = highest(np.stack([cv2.GaussianBlur(one, size, 0) for one in maps[:, 0]]))
    xy = points(x, y) + RADIUS * max(width, height) * maps[np.arange(len(maps)), 1:, y, x]
    xy[value <= 0] = -1
    return xy.reshape(people, joints, 2), value.reshape(people, joints)


HEAD = Head(
    name="udp_heatmap_combined",
    summary="the highest cell of the blurred class map, moved by the offset maps as they are; three channels per joint",
    source="Huang et al., CVPR 2020; MMPose 1.x UDPHeatmap with heatmap_type='combined'",
    shapes=shapes,
    decode=_decode,
    blurs=True,
    merge=merge,
    cuda=10,
)
