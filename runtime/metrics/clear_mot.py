"""CLEAR MOT (Bernardin and Stiefelhagen, 2008): how well identities are kept, as py-motmetrics counts it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .assignment import best_pairs

Double = NDArray[np.float64]


class ClearMot:
    """Counts of one sequence, frame by frame.

    Attributes:
        objects: true instances, over all frames.
        misses: of these, that nothing was found for.
        false_positives: found instances that are nobody's.
        switches: true instances that were found with another id than the last time they were found.
    """

    def __init__(self) -> None:
        self.objects = self.misses = self.false_positives = self.switches = 0
        self._last: dict[int, int] = {}  # found id of each true one

    def add(self, truth: Sequence[int], found: Sequence[int], distance: Double) -> None:
        """Count the next frame.

        Args:
            truth: G different ids of the true instances.
            found: P different ids of the found ones.
            distance: `(G, P)` from 0 on; NaN where two are too far apart to be the same.
        """
        column = {number: index for index, number in enumerate(found)}
        free = np.isfinite(distance)
        kept = 0
        for row, number in enumerate(truth):  # who was found under an id stays with it, while that is near enough
            index = column.get(self._last.get(number, -1), -1)
            if index >= 0 and free[row, index]:
                free[row], free[:, index] = False, False
                kept += 1
        rows: Sequence[int] = ()
        if free.any():  # as many pairs as there can be, then the nearest
            most = (1 + distance[free].max()) * (min(free.shape) + 1)
            pairs = best_pairs(np.where(free, most - np.where(free, distance, 0), 0))
            rows = pairs[0].tolist()
            for row, index in zip(rows, pairs[1].tolist(), strict=True):
                self.switches += truth[row] in self._last
                self._last[truth[row]] = found[index]
        self.objects += len(truth)
        self.misses += len(truth) - kept - len(rows)
        self.false_positives += len(found) - kept - len(rows)

    @property
    def mota(self) -> float:
        """1 - (misses + false positives + switches) / objects; NaN without any objects. It may be below 0."""
        wrong = self.misses + self.false_positives + self.switches
        return 1 - wrong / self.objects if self.objects else float("nan")

    def __add__(self, other: ClearMot) -> ClearMot:
        """The counts of both sequences together."""
        both = ClearMot()
        both.objects = self.objects + other.objects
        both.misses = self.misses + other.misses
        both.false_positives = self.false_positives + other.false_positives
        both.switches = self.switches + other.switches
        return both
