"""Timing contenders against each other on a machine that does not hold still, and what the difference is worth.

Contenders take turns within a round, in another order each round, so that a slow moment falls on all of them; what is
compared are the ratios within a round. Rounds that lie side by side resemble each other, so the interval of a ratio
comes from resampling runs of rounds, not single ones.
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

MARGIN = 0.02
"""Differences below it are called none: two processes of one program differ by so much, by where their memory lies."""

APART = 0.05
"""The same for two that were not timed in turn."""

_CONFIDENCE, _RESAMPLES = 0.95, 2000
_LAUNCHES = 5  # fewer say nothing about their own spread
_STABLE, _WINDOW, _LONG = 0.05, 3, 0.5  # warm is who has changed by less than this between two windows of rounds


@dataclass(frozen=True)
class Ratio:
    """How many times as long `b` takes as `a`.

    Attributes:
        point: median over the rounds.
        low, high: ends of its interval.
        margin: differences that count as none.
    """

    point: float
    low: float
    high: float
    margin: float = MARGIN

    @property
    def verdict(self) -> str:
        """ "slower" or "faster" if the whole interval lies beyond the margin."""
        if self.low > 1 + self.margin:
            return "slower"
        if self.high < 1 / (1 + self.margin):
            return "faster"
        return "no difference"

    def __str__(self) -> str:
        return f"{self.point:.3f} ({self.low:.3f} to {self.high:.3f}) {self.verdict}"


def interleave(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    burst: float = 0.0,
    warm_up: float = 20.0,
    seed: int = 0,
) -> dict[str, list[list[float]]]:
    """Time each contender in each round, after all of them are warm.

    Args:
        contenders: what is called, by name.
        rounds: how many.
        burst: a contender is called again within its turn until so many seconds are over; 0 calls it once.
        warm_up: most seconds that are spent before the first round.
        seed: of the orders.

    Returns:
        seconds of each call, by name and round.
    """
    seen: dict[str, list[list[float]]] = {name: [] for name in contenders}
    warm(contenders, warm_up, seed)
    for order in orders(list(contenders), rounds, seed):
        for name in order:
            seen[name].append(timed(contenders[name], burst))
    return seen


def warm(contenders: Mapping[str, Callable[[], object]], limit: float = 20.0, seed: int = 0) -> bool:
    """Call all in turn until none has changed by 5 % over three rounds, or `limit` seconds are over; which it was."""
    end = time.perf_counter() + limit
    seen: dict[str, list[float]] = {name: [] for name in contenders}
    for order in orders(list(contenders), sys.maxsize, seed):
        for name in order:
            seen[name].append(timed(contenders[name])[0])
        if all(settled(times) for times in seen.values()):
            return True
        if time.perf_counter() > end:
            break
    return False


def settled(times: list[float]) -> bool:
    """Whether the last rounds took as long as those before them; of long calls one is enough."""
    window = 1 if times and times[-1] > _LONG else _WINDOW
    if len(times) < 2 * window:
        return False
    before, last = min(times[-2 * window : -window]), min(times[-window:])
    return abs(last / before - 1) < _STABLE


def timed(call: Callable[[], object], burst: float = 0.0) -> list[float]:
    """Seconds of each call: one, or as many as fit into a burst."""
    times: list[float] = []
    end = time.perf_counter() + burst
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def orders(names: list[str], rounds: int, seed: int = 0) -> Iterator[list[str]]:
    """Another order each round: who comes after a contender that left its threads spinning is not always the same."""
    rng = random.Random(seed)
    return (rng.sample(names, len(names)) for _ in range(rounds))


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
    """How many times as long `b` took as `a`, timed in the same rounds.

    The interval is the percentile interval of the median of `log(b / a)` under a bootstrap of blocks: launches where
    they are given, since a program has its luck with memory and processors once for each launch, else runs of rounds as
    long as the cube root of all (circular: Politis and Romano 1992). It is widened for the small number of blocks by
    Student's t (Hesterberg 2015, "expanded percentile interval").

    Args:
        a, b: `(rounds,)` seconds, in the order of the rounds.
        launches: `(rounds,)`, equal for rounds that were timed in the same processes; None where all were.
        margin: differences that count as none.
        confidence: of the interval; who asks about m contenders at once takes `1 - 0.05 / m` (Bonferroni).

    Raises:
        ValueError: fewer than 6 rounds or 5 launches, unequal numbers of them, or times that are not positive.
    """
    x, y = _times(a), _times(b)
    if len(x) != len(y):
        raise ValueError(f"{len(x)} rounds of one and {len(y)} of the other: expected as many of both")
    blocks = _blocks(np.log(y / x), launches)
    low, high = np.quantile(_resampled_medians(blocks), _tails(len(blocks), confidence))
    return _ratio(float(np.nanmedian(blocks)), low, high, margin)


@dataclass(frozen=True)
class Series:
    """What was timed at one moment.

    Attributes:
        seconds, yardstick: `(rounds,)`, of what is compared and of work that never changes.
        launches: see `ratio`.
    """

    seconds: ArrayLike
    yardstick: ArrayLike
    launches: ArrayLike | None = None


def apart(a: Series, b: Series, confidence: float = _CONFIDENCE) -> Ratio:
    """How many times as long `b` took as `a`, where each was timed at a moment of its own.

    Between two moments a machine changes by more than any interval from within one of them can tell. What a round's
    yardstick took, work that is the same in both, says by how much; but it says so of itself, and others may have
    slowed down more or less. So the interval holds both the interval of the times as they are and that of the times in
    units of the yardstick, and `APART` counts as no difference. Timing both in turn tells far smaller differences.

    Args:
        a, b: what was timed.
        confidence: see `ratio`.

    Raises:
        ValueError: as `ratio`.
    """
    plain = _two_samples(np.log(_times(a.seconds)), np.log(_times(b.seconds)), a, b, confidence)
    relative = _two_samples(_in_yardsticks(a), _in_yardsticks(b), a, b, confidence)
    return _ratio(relative[0], min(plain[1], relative[1]), max(plain[2], relative[2]), APART)


def _times(values: ArrayLike) -> NDArray[np.float64]:
    seconds = np.asarray(values, np.float64)
    if seconds.ndim != 1 or len(seconds) < 6 or not (seconds > 0).all():
        raise ValueError(f"times {seconds.shape}: expected 6 rounds or more, all above 0")
    return seconds


def _ratio(point: float, low: float, high: float, margin: float) -> Ratio:
    # A percentile of medians is one of the values: the point must not lie outside by rounding.
    return Ratio(math.exp(point), math.exp(min(low, point)), math.exp(max(high, point)), margin)


def _in_yardsticks(series: Series) -> NDArray[np.float64]:
    logs: NDArray[np.float64] = np.log(_times(series.seconds) / _times(series.yardstick))
    return logs


def _two_samples(
    x: NDArray[np.float64], y: NDArray[np.float64], a: Series, b: Series, confidence: float
) -> tuple[float, float, float]:
    """Difference of the medians of two series, low and high."""
    p, q = _blocks(x, a.launches), _blocks(y, b.launches)
    differences = _resampled_medians(q, 1) - _resampled_medians(p)
    low, high = np.quantile(differences, _tails(min(len(p), len(q)), confidence))
    return float(np.median(y) - np.median(x)), float(low), float(high)


def _blocks(values: NDArray[np.float64], launches: ArrayLike | None) -> NDArray[np.float64]:
    """What is resampled together, one row each, `(blocks, longest)`; NaN behind the shorter ones."""
    if launches is None:
        length = math.ceil(len(values) ** (1 / 3))
        ids = np.arange(len(values)) // length
    else:
        ids = np.unique(np.asarray(launches)[: len(values)], return_inverse=True)[1]
        if ids.max() + 1 < _LAUNCHES:
            raise ValueError(f"{ids.max() + 1} launches: expected {_LAUNCHES} or more")
    blocks = np.full((ids.max() + 1, np.bincount(ids).max()), np.nan)
    for i in range(len(blocks)):
        blocks[i, : (ids == i).sum()] = values[ids == i]
    return blocks


def _resampled_medians(blocks: NDArray[np.float64], seed: int = 0) -> NDArray[np.float64]:
    rows = np.random.default_rng(seed).integers(0, len(blocks), (_RESAMPLES, len(blocks)))
    medians: NDArray[np.float64] = np.nanmedian(blocks[rows].reshape(_RESAMPLES, -1), axis=1)
    return medians


def _tails(blocks: int, confidence: float) -> tuple[float, float]:
    """Quantiles that make a percentile interval as wide as Student's t asks for so few blocks."""
    df = max(1, blocks - 1)
    tail = NormalDist().cdf(-_student(0.5 + confidence / 2, df) * math.sqrt(blocks / df))
    return tail, 1 - tail


def _student(p: float, df: float) -> float:
    """Quantile of Student's t (Abramowitz and Stegun 26.7.5; within 2 % from 3 degrees of freedom on)."""
    z = NormalDist().inv_cdf(p)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return sum(term / df**i for i, term in enumerate(terms))
