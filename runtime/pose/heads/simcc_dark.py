"""SimCC with DARK: a Newton step on the logarithm of each blurred vector."""

import numpy as np
from numpy.typing import NDArray

from ...bundle.contract import Contract
from ..blur import blur_matrix
from . import Head, Outputs
from ._vectors import Float, Index, highest, merge, shapes

_LOW, _HIGH = 0.001, 50  # what the logarithm is taken of is held between them
_REACH = np.arange(-2, 3)


def _decode(outputs: Outputs, contract: Contract) -> tuple[NDArray[np.float64], Float]:
    at, score = highest(outputs)
    kernels = contract.kernel, contract.kernel_y or contract.kernel
    xy = np.stack([i - _step(o, i, k) for o, i, k in zip(outputs, at, kernels, strict=True)], axis=2)
    xy[score <= 0] = -1
    return xy, score


def _step(vectors: Float, at: Index, kernel: int) -> NDArray[np.float64]:
    """Slope over curvature `(N, K)` at a cell of each vector `(N, K, L)`, of two cells to each side."""
    length = vectors.shape[2]
    matrix = blur_matrix(length, kernel, "zero")
    window = matrix[np.clip(at[..., None] + _REACH, 0, length - 1)] @ vectors[..., None]
    peak = (vectors @ matrix.T).max(axis=2)
    scale = np.divide(vectors.max(axis=2), peak, out=np.ones_like(peak), where=peak != 0)
    log = np.log(np.clip(window[..., 0] * scale[..., None], _LOW, _HIGH))
    slope = 0.5 * (log[..., 3] - log[..., 1])
    step: NDArray[np.float64] = slope / (1e-9 + 0.25 * (log[..., 4] - 2 * log[..., 2] + log[..., 0]))
    return step


HEAD = Head(
    name="simcc_dark",
    summary="a Newton step on the logarithm of each blurred vector; score the lower of the two maxima",
    source="MMPose 1.x SimCCLabel with use_dark",
    decode=_decode,
    blurs=True,
    shapes=shapes,
    merge=merge,
    cuda=12,
)
