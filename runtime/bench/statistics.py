"""Is B slower than A? Ratios of times with intervals that hold on a machine whose speed changes.

Times of one round were taken side by side, so ratios within a round are compared. Neighbouring rounds resemble each
other, so the interval of a ratio comes from resampling blocks of rounds instead of single ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..metrics.student import student

MARGIN = 0.02
"""Smaller differences count as none: two processes of one program differ by this much, depending on where their memory
lies."""

MARGIN_APART = 0.05
"""The same for times that were not taken in turn."""

_CONFIDENCE, _RESAMPLES = 0.95, 2000
_MIN_ROUNDS, _MIN_LAUNCHES = 6, 5  # fewer say nothing about their own spread


@dataclass(frozen=True)
class Ratio:
    """The time of B in units of A's: median over the rounds, ends of its interval, and differences that are none."""

    point: float
    low: float
    high: float
    margin: float = MARGIN

    @property
    def verdict(self) -> str:
        """ "slower" or "faster" if the whole interval lies beyond the margin, else "no difference"."""
        if self.low > 1 + self.margin:
            return "slower"
        if self.high < 1 / (1 + self.margin):
            return "faster"
        return "no difference"

    def __str__(self) -> str:
        return f"{self.point:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Series:
    """Times of one program.

    Attributes:
        seconds, yardstick: `(rounds,)`, of the program and of work that is the same in every version.
        launches: `(rounds,)`, equal for rounds that were timed in the same process; None where all were.
    """

    seconds: ArrayLike
    yardstick: ArrayLike
    launches: ArrayLike | None = None


def per_round(calls: list[list[float]]) -> NDArray[np.float64]:
    """One figure for each round, `(rounds,)`: the median of its calls."""
    return np.array([np.median(one) for one in calls])


def ratio(
    a: ArrayLike,
    b: ArrayLike,
    launches: ArrayLike | None = None,
    *,
    margin: float = MARGIN,
    confidence: float = _CONFIDENCE,
) -> Ratio:
    """The ratio of times that were taken in the same rounds.

    The interval is the percentile interval of the median of `log(b / a)` under a bootstrap of blocks. A block is a
    launch where launches are given, since a program has its luck with memory and processors once per launch; else a run
    of rounds as long as the cube root of their number. The interval is widened for the small number of blocks by
    Student's t (Hesterberg 2015, "expanded percentile interval").

    `a`, `b`: `(rounds,)` seconds, in the order of the rounds. `confidence`: `1 - 0.05 / m` for m ratios at once
    (Bonferroni). Raises ValueError: fewer than 6 rounds or 5 launches, unequal numbers of rounds, or times that are not
    positive.
    """
    x, y = _times(a), _times(b)
    if len(x) != len(y):
        raise ValueError(f"{len(x)} rounds of one and {len(y)} of the other: expected as many of both")
    blocks = _blocks(np.log(y / x), launches)
    low, high = np.quantile(_resampled_medians(blocks), _tails(len(blocks), confidence))
    return _ratio(float(np.nanmedian(blocks)), low, high, margin)


def ratio_apart(a: Series, b: Series, confidence: float = _CONFIDENCE) -> Ratio:
    """The ratio of times that were taken at two moments; raises as `ratio`.

    Between two moments a machine changes by more than times from within one of them show. The yardstick shows by how
    much, but other work may have slowed down more or less. So the interval covers both the plain ratio and the ratio in
    units of the yardstick, and `MARGIN_APART` counts as no difference. Timing both in turn finds far smaller ones.
    """
    ends: list[float] = []
    for unit_a, unit_b in ((1.0, 1.0), (_times(a.yardstick), _times(b.yardstick))):
        x, y = np.log(_times(a.seconds) / unit_a), np.log(_times(b.seconds) / unit_b)
        p, q = _blocks(x, a.launches), _blocks(y, b.launches)
        differences = _resampled_medians(q, 1) - _resampled_medians(p)
        ends += np.quantile(differences, _tails(min(len(p), len(q)), confidence)).tolist()
        point = float(np.median(y) - np.median(x))
    return _ratio(point, min(ends), max(ends), MARGIN_APART)


def _times(values: ArrayLike) -> NDArray[np.float64]:
    seconds = np.asarray(values, np.float64)
    if seconds.ndim != 1 or len(seconds) < _MIN_ROUNDS or not (seconds > 0).all():
        raise ValueError(f"times {seconds.shape}: expected {_MIN_ROUNDS} rounds or more, all above 0")
    return seconds


def _ratio(point: float, low: float, high: float, margin: float) -> Ratio:
    # The interval's ends are values of the sample: rounding must not put the point outside.
    return Ratio(math.exp(point), math.exp(min(low, point)), math.exp(max(high, point)), margin)


def _blocks(values: NDArray[np.float64], launches: ArrayLike | None) -> NDArray[np.float64]:
    """What is resampled together, one row each, `(blocks, longest)`; shorter rows end with NaN."""
    if launches is None:
        ids = np.arange(len(values)) // math.ceil(len(values) ** (1 / 3))
    else:
        ids = np.unique(np.asarray(launches)[: len(values)], return_inverse=True)[1]
        if ids.max() + 1 < _MIN_LAUNCHES:
            raise ValueError(f"{ids.max() + 1} launches: expected {_MIN_LAUNCHES} or more")
    blocks = np.full((ids.max() + 1, np.bincount(ids).max()), np.nan)
    for i, block in enumerate(blocks):
        block[: (ids == i).sum()] = values[ids == i]
    return blocks


def _resampled_medians(blocks: NDArray[np.float64], seed: int = 0) -> NDArray[np.float64]:
    rows = np.random.default_rng(seed).integers(0, len(blocks), (_RESAMPLES, len(blocks)))
    medians: NDArray[np.float64] = np.nanmedian(blocks[rows].reshape(_RESAMPLES, -1), axis=1)
    return medians


def _tails(blocks: int, confidence: float) -> tuple[float, float]:
    """Quantiles that make a percentile interval as wide as Student's t asks for so few blocks."""
    df = max(1, blocks - 1)
    tail = NormalDist().cdf(-student(0.5 + confidence / 2, df) * math.sqrt(blocks / df))
    return tail, 1 - tail
