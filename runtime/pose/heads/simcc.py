"""The highest cell of a vector along x and of one along y."""

import numpy as np

from ...bundle.contract import Contract
from . import Head, Outputs
from ._vectors import Float, highest, merge, shapes


def _decode(outputs: Outputs, contract: Contract) -> tuple[Float, Float]:
    (x, y), score = highest(outputs)
    xy = np.stack([x, y], axis=2).astype(np.float32)
    xy[score <= 0] = -1
    return xy, score


HEAD = Head(
    name="simcc",
    summary="the highest cells of a vector along x and of one along y; score the lower of the two",
    source="Li et al., ECCV 2022; MMPose 1.x SimCCLabel",
    decode=_decode,
    shapes=shapes,
    merge=merge,
    cuda=11,
)
