"""Observers: what is kept of a stream of activations. Their memory does not grow with the stream.

A tensor of maps is observed channel by channel. Bins lie at fixed places, 16 to the octave, and a channel keeps those
of its four highest octaves: smaller values are never clipped, and it is enough to count them. So neither the order of
the values nor their batches matter, and merging two observers is exact.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

OCTAVES = 4
PER_OCTAVE = 16
BINS = OCTAVES * PER_OCTAVE
_MANTISSA = 23 - 4  # of float32's bits, below the four that tell an octave's bins apart
_BIAS = 127 - OCTAVES  # of the exponent of a window's first bin
_LOWEST, _HIGHEST = -100, 128  # exponents of windows


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


class Observer:
    """Extremes and upper octaves of a stream of finite values, by channel, exact for any order and batching.

    Attributes:
        lo, hi: `(C,)` float32, the smallest and the largest value, or zero. C is 1 for tensors that are no maps
            `(N, C, H, W)` or whose second axis is not always as long, and 0 before the first values.
        top: `(C,)` int32; the bins of a channel cover the magnitudes from 2**(top - 4) to 2**top.
        counts: `(2, C, 64)` int64, of positive and of negative values.
        nonzero: how many values were not zero, in all channels.
    """

    def __init__(self) -> None:
        self._resize(0)
        self.nonzero = 0

    def _resize(self, channels: int) -> None:
        self.lo = np.zeros(channels, np.float32)
        self.hi = np.zeros(channels, np.float32)
        self.top: NDArray[np.int32] = np.full(channels, _LOWEST, np.int32)
        self.counts: NDArray[np.int64] = np.zeros((2, channels, BINS), np.int64)

    def update(self, values: NDArray[np.float32]) -> bool:
        """Add values to the stream; returns False, and adds nothing, if one of them is not finite."""
        maps = values.reshape(*values.shape[:2], -1) if values.ndim == 4 else values.reshape(1, 1, -1)
        if len(self.lo) and maps.shape[1] != len(self.lo):
            self._join()
            maps = values.reshape(1, 1, -1)
        maps = np.ascontiguousarray(maps, np.float32)
        lo, hi = maps.min(axis=2).min(axis=0), maps.max(axis=2).max(axis=0)
        if not (np.isfinite(lo).all() and np.isfinite(hi).all()):
            return False
        channels = maps.shape[1]
        if not len(self.lo):
            self._resize(channels)
        self.lo, self.hi = np.minimum(self.lo, lo), np.maximum(self.hi, hi)
        largest = np.maximum(-self.lo, self.hi)
        self._raise(np.where(largest > 0, np.frexp(largest)[1], _LOWEST))
        self.nonzero += int(np.count_nonzero(maps))
        first = np.ldexp(np.float32(1), self.top - OCTAVES)[:, None]
        # A float's highest bits count the bins of all octaves; this takes them to the channel's own.
        base = (np.arange(channels, dtype=np.int64) * BINS - (self.top + _BIAS) * PER_OCTAVE)[:, None]
        signs = (1, -1) if lo.min() < 0 else (1,)
        for image in maps:
            for k, sign in enumerate(signs):
                seen = image if sign == 1 else -image
                large = seen >= first
                key = (seen[large].view(np.int32) >> _MANTISSA) + np.broadcast_to(base, seen.shape)[large]
                self.counts[k] += np.bincount(key, minlength=channels * BINS).reshape(channels, BINS)
        return True

    def merge(self, other: Observer) -> None:
        """Add the stream of another observer of the same tensor."""
        if not len(self.lo):
            self._resize(len(other.lo))
        aligned = Observer()
        aligned.lo, aligned.hi = other.lo, other.hi
        aligned.top, aligned.counts = other.top.copy(), other.counts.copy()
        if len(self.lo) != len(other.lo):
            self._join()
            aligned._join()
        aligned._raise(self.top)
        self._raise(aligned.top)
        self.counts += aligned.counts
        self.lo, self.hi = np.minimum(self.lo, aligned.lo), np.maximum(self.hi, aligned.hi)
        self.nonzero += other.nonzero

    def _join(self) -> None:
        """Make one channel of all."""
        top = self.top.max(keepdims=True)
        self._raise(np.broadcast_to(top, self.top.shape))
        self.lo, self.hi, self.top = self.lo.min(keepdims=True), self.hi.max(keepdims=True), top
        self.counts = self.counts.sum(axis=1, keepdims=True)

    def _raise(self, top: NDArray[Any]) -> None:
        """Move windows up to `top` where that is higher; what falls out at the bottom is only counted in `nonzero`."""
        rise = np.clip(np.clip(top, _LOWEST, _HIGHEST) - self.top, 0, OCTAVES)
        for c in np.flatnonzero(rise):
            moved = int(rise[c]) * PER_OCTAVE
            self.counts[:, c, : BINS - moved] = self.counts[:, c, moved:]
            self.counts[:, c, BINS - moved :] = 0
        self.top = np.maximum(self.top, np.clip(top, _LOWEST, _HIGHEST)).astype(np.int32)

    def to_json(self) -> dict[str, Any]:
        """The whole state as JSON values."""
        arrays = self.lo.astype("<f4"), self.hi.astype("<f4"), self.top.astype("<i4"), self.counts.astype("<i8")
        packed = zlib.compress(b"".join(a.tobytes() for a in arrays))
        return {"channels": len(self.lo), "nonzero": self.nonzero, "state": base64.b64encode(packed).decode()}

    def load_json(self, values: Mapping[str, Any]) -> None:
        """Take over the state that `to_json` returned.

        Raises ValueError: the values are not such a state (or KeyError, TypeError).
        """
        channels, nonzero = int(values["channels"]), int(values["nonzero"])
        size = channels * (12 + 16 * BINS)
        try:
            data = zlib.decompressobj().decompress(base64.b64decode(values["state"], validate=True), size + 1)
        except zlib.error as error:
            raise ValueError(f"the state cannot be decompressed: {error}") from error
        if channels < 1 or len(data) != size:
            raise ValueError(f"expected the state of {channels} channels")
        self._resize(channels)
        words = np.frombuffer(data, "<f4", 2 * channels).astype(np.float32)
        self.lo, self.hi = words[:channels], words[channels:]
        self.top = np.frombuffer(data, "<i4", channels, 8 * channels).astype(np.int32)
        self.counts = np.frombuffer(data, "<i8", -1, 12 * channels).reshape(2, channels, BINS).astype(np.int64)
        self.nonzero = nonzero
        finite = np.isfinite(words).all() and (self.lo <= 0).all() and (self.hi >= 0).all()
        windows = (self.top >= _LOWEST).all() and (self.top <= _HIGHEST).all()
        if not (finite and windows and (self.counts >= 0).all() and nonzero >= self.counts.sum()):
            raise ValueError("the extremes, windows or counts are impossible")
