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

_CONFIDENCE, _RESAMPLES = 0.95, 2000
_STABLE, _WINDOW = 0.05, 3  # warm is who has changed by less than this between two windows of rounds


@dataclass(frozen=True)
class Ratio:
    """How many times as long `b` takes as `a`.

    Attributes:
        point: median over the rounds.
        low, high: ends of its 95 % interval.
        margin: differences that count as none.
    """

    point: float
    low: float
    high: float
    margin: float = MARGIN

    @property
    def verdict(self) -> str:
        """ "slower" or "faster" if the whole interval says so and the difference is above the margin."""
        if self.low > 1 and self.point > 1 + self.margin:
            return "slower"
        if self.high < 1 and self.point < 1 / (1 + self.margin):
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
    """Whether the last rounds took as long as those before them."""
    if len(times) < 2 * _WINDOW:
        return False
    before, last = min(times[-2 * _WINDOW : -_WINDOW]), min(times[-_WINDOW:])
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


def ratio(a: ArrayLike, b: ArrayLike, margin: float = MARGIN) -> Ratio:
    """How many times as long `b` took as `a`, timed in the same rounds.

    The interval is the percentile interval of the median of `log(b / a)` under a circular block bootstrap over rounds
    (Politis and Romano 1992), with blocks of the cube root of the rounds, widened for the small number of blocks by
    Student's t (Hesterberg 2015, "expanded percentile interval").

    Args:
        a, b: `(rounds,)` seconds, in the order of the rounds.
        margin: differences that count as none.

    Raises:
        ValueError: fewer than 6 rounds, unequal numbers of them, or times that are not positive.
    """
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(x) < 6 or not (x > 0).all() or not (y > 0).all():
        raise ValueError(f"times {x.shape} and {y.shape}: expected 6 rounds or more of both, all above 0")
    logs = np.log(y / x)
    low, high = np.quantile(_resampled_medians(logs), _tails(len(logs) / _block(len(logs))))
    point = float(np.median(logs))
    # A percentile of medians is one of the values: the point must not lie outside by rounding.
    return Ratio(math.exp(point), math.exp(min(low, point)), math.exp(max(high, point)), margin)


def _resampled_medians(values: NDArray[np.float64]) -> NDArray[np.float64]:
    n, block = len(values), _block(len(values))
    rng = np.random.default_rng(0)
    starts = rng.integers(0, n, (_RESAMPLES, math.ceil(n / block)))
    rows = (starts[:, :, None] + np.arange(block)).reshape(_RESAMPLES, -1)[:, :n] % n
    medians: NDArray[np.float64] = np.median(values[rows], axis=1)
    return medians


def _block(rounds: int) -> int:
    return math.ceil(rounds ** (1 / 3))


def _tails(blocks: float) -> tuple[float, float]:
    """Quantiles that make a percentile interval as wide as Student's t with `blocks - 1` degrees of freedom asks."""
    normal, df = NormalDist(), max(1.0, blocks - 1)
    tail = normal.cdf(-_student(0.5 + _CONFIDENCE / 2, df) * math.sqrt(blocks / max(1.0, blocks - 1)))
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
