"""How much the joints of a run tremble, measured as its frames come."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..pose.keypoints import Keypoints


class RunJitter:
    """Mean acceleration of the joints, px of the frame per frame squared: who stands still and does not tremble has 0.

    Without ids a frame with one person counts as the same person as the frame before.

    Args:
        threshold: joints count that have this score in three frames that follow one another.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._last: deque[Keypoints] = deque(maxlen=3)
        self._sums = {"smoothed": 0.0, "raw": 0.0}
        self._count = 0

    def add(self, people: Keypoints | None) -> None:
        """Take in the next frame; None: it could not be used."""
        if people is None or (people.ids is None and len(people) != 1):
            self._last.clear()
            return
        self._last.append(replace(people, ids=np.zeros(1, np.int64)) if people.ids is None else people)
        if len(self._last) < 3 or not all(map(len, self._last)):
            return
        rows = _common([p.ids for p in self._last if p.ids is not None])
        seen = [p.score[r] >= self._threshold for p, r in zip(self._last, rows, strict=True)]
        counted = seen[0] & seen[1] & seen[2]
        self._count += int(counted.sum())
        smoothed = [p.xy[r] for p, r in zip(self._last, rows, strict=True)]
        raw = [(p.xy if p.raw is None else p.raw)[r] for p, r in zip(self._last, rows, strict=True)]
        for name, (before, middle, after) in (("smoothed", smoothed), ("raw", raw)):
            length = np.linalg.norm(before - 2 * middle + after, axis=2)
            self._sums[name] += float(length[counted].sum())

    def figures(self) -> dict[str, float]:
        """The mean of the joints, and if they were smoothed of the raw ones too; empty if nothing was measured."""
        if not self._count:
            return {}
        means = {name: total / self._count for name, total in self._sums.items()}
        return means if means["smoothed"] != means["raw"] else {"joints": means["raw"]}


def _common(ids: list[NDArray[np.int64]]) -> list[NDArray[np.intp]]:
    """For each frame the rows of those who are in all of them, in one order."""
    everywhere = ids[0][np.isin(ids[0], ids[1]) & np.isin(ids[0], ids[2])]
    found = []
    for one in ids:
        order = np.argsort(one)
        found.append(order[np.searchsorted(one[order], everywhere)])
    return found
