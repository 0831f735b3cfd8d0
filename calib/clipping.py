"""From what an observer saw of a tensor to the range that int8 represents.

A narrower range has finer steps, and clips. The range with the least squared error over the values clips too much:
rounding errors of neighbouring values are independent and average out in the next convolution, but a value is clipped
where its neighbours are clipped as well, and in the same direction, at the very peaks that the joints are read from.
So errors of clipping weigh more here. Of the weights 1, 4, 16, 64 and infinity (min-max), 16 moved joints least, on
people and on photographs (docs/quantizers.md).

Nothing clips a heatmap: Q/DQ placement never quantises a graph output.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .observers import BINS, OCTAVES, PER_OCTAVE, Observer, Range

Float = NDArray[np.float64]

CLIPPED_WEIGHT = 16.0
_SHARES = np.linspace(1.0, 0.2, 81)  # of the whole range; a channel's four octaves reach down to an eighth of its own
_UNSIGNED_STEPS, _SIGNED_STEPS = 255, 127


def find_range(seen: Observer, scale: NDArray[np.float32] | None = None, unsigned: bool = True) -> Range:
    """The range of a tensor.

    Args:
        seen: of it.
        scale: `(C,)`, by which its channels will be divided; None leaves them.
        unsigned: whether 255 steps cover the range, or 127 its larger side.
    """
    divisor = np.ones(len(seen.lo)) if scale is None else scale.astype(np.float64)
    lo, hi = float((seen.lo / divisor).min()), float((seen.hi / divisor).max())
    levels = (np.arange(BINS) % PER_OCTAVE + 0.5) / PER_OCTAVE + 1
    middle = np.ldexp(levels, np.arange(BINS) // PER_OCTAVE - OCTAVES) * np.ldexp(1.0, seen.top)[:, None]
    magnitude = middle / divisor[:, None]
    ends = _SHARES[:, None] * (hi, -lo)
    steps = ends.sum(axis=1) / _UNSIGNED_STEPS if unsigned else ends.max(axis=1) / _SIGNED_STEPS
    loss = seen.nonzero * steps**2 / 12
    for counts, end in zip(seen.counts, ends.T, strict=True):
        loss += CLIPPED_WEIGHT * _clipped(magnitude.ravel(), counts.ravel(), end)
    share = float(_SHARES[int(np.argmin(loss))])
    return Range(lo * share, hi * share)


def _clipped(magnitude: Float, counts: NDArray[np.int64], end: Float) -> Float:
    """Sum of the squared distances of all values beyond each end `(S,)` from it."""
    filled = np.flatnonzero(counts)
    order = filled[np.argsort(magnitude[filled], kind="stable")]
    x, n = magnitude[order], counts[order].astype(np.float64)
    # of all values from the k-th on
    count, first, second = (np.append(np.cumsum((n * x**p)[::-1])[::-1], 0.0) for p in (0, 1, 2))
    k = np.searchsorted(x, end, side="right")
    return np.maximum(second[k] - 2 * end * first[k] + end**2 * count[k], 0.0)
