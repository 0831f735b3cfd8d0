"""What the rules share that read a vector along x and one along y per joint (SimCC; Li et al., ECCV 2022)."""

import numpy as np
from numpy.typing import NDArray

from ...bundle.contract import Contract
from . import Outputs, Shapes

Float = NDArray[np.float32]
Index = NDArray[np.intp]


def shapes(contract: Contract) -> Shapes:
    """Two outputs, `(K, w)` and `(K, h)`: as many cells as the contract's map has columns and rows."""
    k = len(contract.keypoints)
    return ((k, contract.heatmap_width), (k, contract.heatmap_height))


def highest(outputs: Outputs) -> tuple[tuple[Index, Index], Float]:
    """Each vector's first highest cell `(N, K)` along x and y, and the lower of their values."""
    at = outputs[0].argmax(axis=2), outputs[1].argmax(axis=2)
    x, y = (np.take_along_axis(o, i[..., None], axis=2)[..., 0] for o, i in zip(outputs, at, strict=True))
    high = np.maximum(x, y)
    return at, np.minimum(x, y) + (high - high)  # an infinity in one of them has to show, and becomes NaN here


def merge(outputs: Outputs, contract: Contract) -> Outputs:
    """Mean of the vectors and of the mirrored ones; only those along x run the other way, and nothing is shifted."""
    flip = list(contract.flip_index)
    half = len(outputs[0]) // 2
    x, y = (o[half:, flip] for o in outputs)
    return (outputs[0][:half] + x[..., ::-1]) * np.float32(0.5), (outputs[1][:half] + y) * np.float32(0.5)
