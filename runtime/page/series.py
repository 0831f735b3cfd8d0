"""What happens over time, in bounded memory: sums over intervals of frames that grow with the run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

INTERVALS = 240


class Series:
    """Sums and maxima of some numbers over at most `INTERVALS` intervals of `length` frames each.

    When all are full, neighbours are merged and `length` doubles: a video of any length takes the same memory.
    """

    def __init__(self, sums: int, maxima: int) -> None:
        self.length, self.frames = 1, 0
        self._sums = np.zeros((INTERVALS, sums))
        self._maxima = np.zeros((INTERVALS, maxima))

    def add(self, sums: ArrayLike, maxima: ArrayLike) -> int:
        """Add a frame. Returns its interval."""
        if self.frames == INTERVALS * self.length:
            half = INTERVALS // 2
            self._sums[:half] = self._sums[0::2] + self._sums[1::2]
            self._maxima[:half] = np.maximum(self._maxima[0::2], self._maxima[1::2])
            self._sums[half:], self._maxima[half:] = 0, 0
            self.length *= 2
        place = self.frames // self.length
        self._sums[place] += sums
        self._maxima[place] = np.maximum(self._maxima[place], maxima)
        self.frames += 1
        return place

    def skip(self, frames: int) -> None:
        """Stand for this many frames of zeros; only of an empty series."""
        while frames > INTERVALS * self.length:
            self.length *= 2
        self.frames = frames

    @property
    def used(self) -> int:
        """The number of intervals that hold a frame."""
        return -(-self.frames // self.length)

    @property
    def sums(self) -> NDArray[np.float64]:
        """`(intervals, numbers)`."""
        return self._sums[: self.used]

    @property
    def maxima(self) -> NDArray[np.float64]:
        """`(intervals, numbers)`."""
        return self._maxima[: self.used]


class Lanes:
    """In which intervals each identity was seen.

    At most `KEPT` identities are held, those seen in most frames; what is dropped is counted.
    """

    KEPT = 500

    def __init__(self) -> None:
        self._seen: dict[int, NDArray[np.int64]] = {}
        self._length = 1
        self.dropped = 0

    def __len__(self) -> int:
        """The number of identities; one that comes back after it was dropped counts twice."""
        return len(self._seen) + self.dropped

    def add(self, ids: Sequence[int], place: int, length: int) -> None:
        """Add the identities of one frame, which lies in an interval `place` of `length` frames."""
        while self._length < length:
            for number, seen in self._seen.items():
                merged = np.zeros_like(seen)
                merged[: INTERVALS // 2] = seen[0::2] + seen[1::2]
                self._seen[number] = merged
            self._length *= 2
        for number in ids:
            if number not in self._seen:
                self._seen[number] = np.zeros(INTERVALS, np.int64)
            self._seen[number][place] += 1
        if len(self._seen) > 2 * self.KEPT:
            kept = sorted(self._seen, key=self._frames, reverse=True)[: self.KEPT]
            self.dropped += len(self._seen) - self.KEPT
            self._seen = {number: self._seen[number] for number in kept}

    def longest(self, count: int) -> list[tuple[int, NDArray[np.int64]]]:
        """The identities seen in most frames, in order of their first frame, each with its frames `(INTERVALS,)`."""
        found = sorted(self._seen, key=self._frames, reverse=True)[:count]
        found.sort(key=lambda number: (int(np.flatnonzero(self._seen[number])[0]), number))
        return [(number, self._seen[number]) for number in found]

    def _frames(self, number: int) -> int:
        return int(self._seen[number].sum())
