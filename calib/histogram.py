"""What is kept of a stream of activations: extremes, or a histogram; memory does not grow with the stream.

The histogram's bins double in width whenever a value falls outside. Bin widths are powers of two and bin edges
multiples of them, so merging pairs is exact: the order of the values and their batches leave no trace, and the result
equals that of all values at once.
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
    """The interval of values that a quantised tensor must be able to tell apart; always holds zero."""

    lo: float
    hi: float

    @property
    def amax(self) -> float:
        """The largest magnitude, on which a symmetric scale rests."""
        return max(-self.lo, self.hi)

    def __or__(self, other: Range) -> Range:
        """The smallest range that holds both."""
        return Range(min(self.lo, other.lo), max(self.hi, other.hi))


class Extremes:
    """Smallest and largest value of a stream; NaN and infinities come through as they are."""

    def __init__(self) -> None:
        self.lo = math.inf
        self.hi = -math.inf

    def update(self, values: NDArray[np.float32]) -> bool:
        """Take more values in; False, and nothing taken, when one of them is not finite."""
        lo, hi = float(values.min()), float(values.max())
        if not (math.isfinite(lo) and math.isfinite(hi)):
            return False
        self.lo, self.hi = min(self.lo, lo), max(self.hi, hi)
        return True

    def absorb(self, other: Extremes) -> None:
        """Take in what another one of the same kind has seen, as if its stream had been this one's."""
        self.lo, self.hi = min(self.lo, other.lo), max(self.hi, other.hi)

    def to_json(self) -> dict[str, Any]:
        """All that was kept, as JSON values."""
        return {"lo": self.lo, "hi": self.hi}

    def restore(self, values: Mapping[str, Any]) -> None:
        """Become what `to_json` was called on.

        Raises:
            ValueError: the values are something else (or KeyError, TypeError).
        """
        lo, hi = float(values["lo"]), float(values["hi"])
        if not (math.isfinite(lo) and math.isfinite(hi) and lo <= hi):
            raise ValueError(f"extremes {lo} and {hi}")
        self.lo, self.hi = lo, hi


class Histogram(Extremes):
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
        # frexp: limit < 2**power; the widest bin edge lies strictly outside every value.
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

    def absorb(self, other: Extremes) -> None:
        assert isinstance(other, Histogram) and other.bins == self.bins
        super().absorb(other)
        wider = Histogram(other.bins)
        wider.counts, wider.exponent = other.counts.copy(), other.exponent
        for narrow, target in ((self, wider.exponent), (wider, self.exponent)):
            while narrow.exponent < target:
                narrow._widen()
        self.counts += wider.counts

    def to_json(self) -> dict[str, Any]:
        counts = base64.b64encode(zlib.compress(self.counts.astype("<i8").tobytes())).decode()
        return {**super().to_json(), "exponent": self.exponent, "counts": counts}

    def restore(self, values: Mapping[str, Any]) -> None:
        super().restore(values)
        size = 16 * self.bins
        try:
            data = zlib.decompressobj().decompress(base64.b64decode(values["counts"], validate=True), size + 1)
        except zlib.error as error:
            raise ValueError(f"counts that cannot be unpacked: {error}") from error
        if len(data) != size:
            raise ValueError(f"a histogram has {2 * self.bins} counts")
        self.counts = np.frombuffer(data, "<i8").astype(np.int64)
        self.exponent = int(values["exponent"])
        if not -126 <= self.exponent <= 128 or (self.counts < 0).any() or not self.counts.any():
            raise ValueError("counts that no histogram has")

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
