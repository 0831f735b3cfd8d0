"""Observers: what is kept of a stream of activations. Their memory does not grow with the stream.

The bins of a histogram double in width whenever a value falls outside. Bin widths are powers of two and bin edges
multiples of them, so merging pairs of bins is exact: neither the order of the values nor their batches matter, and the
result equals that of all values at once.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_BINS = 8192  # per side of zero: a percentile is read to 1/4096 of the largest magnitude or better
_CHUNK_VALUES = 1 << 23  # cv2.calcHist counts in float32, which is exact up to 2**24


@dataclass(frozen=True)
class Range:
    """The interval of values that a quantised tensor represents; always contains zero."""

    lo: float
    hi: float

    @property
    def amax(self) -> float:
        """The largest magnitude, which sets a symmetric scale."""
        return max(-self.lo, self.hi)

    def __or__(self, other: Range) -> Range:
        """The smallest range that contains both."""
        return Range(min(self.lo, other.lo), max(self.hi, other.hi))


class MinMaxObserver:
    """Smallest and largest value of a stream of finite values."""

    def __init__(self) -> None:
        self.lo = math.inf
        self.hi = -math.inf

    def update(self, values: NDArray[np.float32]) -> bool:
        """Add values to the stream; returns False, and adds nothing, if one of them is not finite."""
        lo, hi = float(values.min()), float(values.max())
        if not (math.isfinite(lo) and math.isfinite(hi)):
            return False
        self.lo, self.hi = min(self.lo, lo), max(self.hi, hi)
        return True

    def merge(self, other: MinMaxObserver) -> None:
        """Add the stream of another observer of the same kind."""
        self.lo, self.hi = min(self.lo, other.lo), max(self.hi, other.hi)

    def to_json(self) -> dict[str, Any]:
        """The whole state as JSON values."""
        return {"lo": self.lo, "hi": self.hi}

    def load_json(self, values: Mapping[str, Any]) -> None:
        """Take over the state that `to_json` returned.

        Raises ValueError: the values are not such a state (or KeyError, TypeError).
        """
        lo, hi = float(values["lo"]), float(values["hi"])
        if not (math.isfinite(lo) and math.isfinite(hi) and lo <= hi):
            raise ValueError(f"expected finite lo <= hi, got {lo} and {hi}")
        self.lo, self.hi = lo, hi


class HistogramObserver(MinMaxObserver):
    """Counts of a stream's values in equal bins around zero, exact for any order and batching.

    Attributes:
        counts: (2 * bins,) int64; the middle edge is zero.
        exponent: a bin is 2**exponent wide.
    """

    def __init__(self, bins: int = _BINS) -> None:
        super().__init__()
        self.bins = bins
        self.counts: NDArray[np.int64] = np.zeros(2 * bins, np.int64)
        self.exponent = -126

    def update(self, values: NDArray[np.float32]) -> bool:
        if not super().update(values):
            return False
        limit = max(-self.lo, self.hi)
        # frexp: limit < 2**power; the outermost bin edge lies strictly outside every value.
        power = math.frexp(limit)[1] if limit > 0 else -126
        while self.exponent < power - int(math.log2(self.bins)):
            self._widen()
        edge = math.ldexp(self.bins, self.exponent)
        flat = values.reshape(-1)
        for k in range(0, flat.size, _CHUNK_VALUES):
            part = flat[k : k + _CHUNK_VALUES]
            counted = cv2.calcHist([part[None]], [0], None, [2 * self.bins], [-edge, edge])
            self.counts += counted.reshape(-1).astype(np.int64)
        return True

    def merge(self, other: MinMaxObserver) -> None:
        assert isinstance(other, HistogramObserver) and other.bins == self.bins
        super().merge(other)
        wider = HistogramObserver(other.bins)
        wider.counts, wider.exponent = other.counts.copy(), other.exponent
        for narrow, target in ((self, wider.exponent), (wider, self.exponent)):
            while narrow.exponent < target:
                narrow._widen()
        self.counts += wider.counts

    def to_json(self) -> dict[str, Any]:
        counts = base64.b64encode(zlib.compress(self.counts.astype("<i8").tobytes())).decode()
        return {**super().to_json(), "exponent": self.exponent, "counts": counts}

    def load_json(self, values: Mapping[str, Any]) -> None:
        super().load_json(values)
        size = 16 * self.bins
        try:
            data = zlib.decompressobj().decompress(base64.b64decode(values["counts"], validate=True), size + 1)
        except zlib.error as error:
            raise ValueError(f"the counts cannot be decompressed: {error}") from error
        if len(data) != size:
            raise ValueError(f"expected {2 * self.bins} counts")
        self.counts = np.frombuffer(data, "<i8").astype(np.int64)
        self.exponent = int(values["exponent"])
        if not -126 <= self.exponent <= 128 or (self.counts < 0).any() or not self.counts.any():
            raise ValueError("the counts or the bin width are impossible for a histogram")

    def quantile(self, fraction: float) -> float:
        """The value below which `fraction` of the stream lies, linear within a bin."""
        wanted = fraction * self.counts.sum()
        below = np.concatenate([[0], np.cumsum(self.counts)])
        k = int(np.clip(np.searchsorted(below, wanted, side="left") - 1, 0, len(self.counts) - 1))
        inside = (wanted - below[k]) / max(int(self.counts[k]), 1)
        value = math.ldexp(k - self.bins + inside, self.exponent)
        return min(max(value, self.lo), self.hi)

    def _widen(self) -> None:
        """Double the width of every bin; zero stays an edge because the number of bins per side is even."""
        if not self.counts.any():
            self.exponent += 1
            return
        pairs = self.counts.reshape(-1, 2).sum(axis=1)
        self.counts[:] = 0
        self.counts[self.bins // 2 : self.bins // 2 + self.bins] = pairs
        self.exponent += 1
