"""The statistics of timings, on noise as machines make it: drift, two speeds, echoes and rare long calls."""

from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from posert.runtime.bench.statistics import Ratio, Series, per_round, ratio, ratio_apart
from posert.runtime.bench.timing import interleave, orders, settled


def noisy(rng: np.random.Generator, rounds: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two contenders of the same speed on a machine that is shared with others: `(rounds,)` seconds each."""
    moments = 2 * rounds
    drift = np.cumsum(rng.normal(0, 0.01, moments))
    busy = 0.35 * (np.cumsum(rng.random(moments) < 0.05) % 2)  # a neighbour comes and goes
    echo = np.zeros(moments)
    for i in range(1, moments):
        echo[i] = 0.6 * echo[i - 1] + rng.normal(0, 0.05)
    long_calls = 0.02 * np.abs(rng.standard_t(2, moments))
    pairs = rng.permuted(np.exp(drift + busy + echo + long_calls).reshape(rounds, 2), axis=1)
    return pairs[:, 0], pairs[:, 1]


@pytest.mark.parametrize("luck", [0.0, 0.02])
def test_the_same_is_no_different_and_a_tenth_is_found(luck: float):
    """As `posert bench --against` measures: 40 rounds, two in each launch, which has its luck."""
    rng = np.random.default_rng(3)
    launches = np.arange(40) // 2
    runs, false, found, missed = 60, 0, 0, 0
    for _ in range(runs):
        a, b = np.array(noisy(rng, 40)) * np.exp(rng.normal(0, luck, (2, 20)))[:, launches]
        same, slower = ratio(a, b, launches), ratio(a, 1.1 * b, launches)
        false += same.verdict != "no difference"
        found += slower.verdict == "slower"
        missed += not slower.low <= 1.1 <= slower.high
    # Of 95 % intervals one in twenty misses: 3 of 60 are expected, and more than 9 once in a thousand times.
    assert false <= 1 and missed <= 9
    assert found >= 57


def test_a_faster_one_is_the_inverse_of_a_slower():
    a, b = noisy(np.random.default_rng(0), 40)
    there, back = ratio(a, 1.3 * b), ratio(1.3 * b, a)
    assert (there.verdict, back.verdict) == ("slower", "faster")
    assert back.point == pytest.approx(1 / there.point)
    assert back.low == pytest.approx(1 / there.high, rel=0.03)  # the tails are other draws of the bootstrap


def test_a_certain_but_small_difference_is_none():
    a = np.linspace(1, 2, 20)
    assert ratio(a, 1.015 * a).verdict == "no difference"
    assert ratio(a, 1.025 * a).verdict == "slower"
    assert ratio(a, 1.015 * a, margin=0).verdict == "slower"


def test_the_interval_holds_the_point_and_needs_no_spread():
    r = ratio(np.ones(8), np.full(8, 1.5))
    assert (r.low, r.point, r.high) == pytest.approx((1.5, 1.5, 1.5))
    assert str(Ratio(1.0, 0.9, 1.1)) == "1.000 (0.900 to 1.100)"


@pytest.mark.parametrize(
    ("a", "b"),
    [([1.0] * 5, [1.0] * 5), ([1.0] * 8, [1.0] * 7), ([0.0] * 8, [1.0] * 8), ([float("nan")] * 8, [1.0] * 8)],
)
def test_what_cannot_be_compared_is_refused(a: list[float], b: list[float]):
    with pytest.raises(ValueError, match="expected"):
        ratio(a, b)


def test_contenders_take_turns():
    calls: list[str] = []

    def contender(name: str, seconds: float) -> object:
        def call() -> None:
            calls.append(name)
            time.sleep(seconds)

        return call

    seen = interleave({"a": contender("a", 0.002), "b": contender("b", 0.004)}, 8, burst=0.006, warm_up=0.5)  # type: ignore[dict-item]
    assert {name: len(rounds) for name, rounds in seen.items()} == {"a": 8, "b": 8}
    assert all(len(one) >= 1 and sum(one) >= 0.004 for rounds in seen.values() for one in rounds)
    assert (per_round(seen["b"]) > 0.004).all()
    turns = [name for i, name in enumerate(calls) if i == 0 or calls[i - 1] != name]
    assert len(turns) > 8  # nobody's rounds were timed in one go


def test_orders_differ_and_hold_everybody():
    seen = list(orders(["a", "b", "c"], 30))
    assert all(sorted(one) == ["a", "b", "c"] for one in seen)
    assert len({tuple(one) for one in seen}) > 3


def test_warm_is_who_has_stopped_changing():
    assert not settled([0.1, 0.1])
    assert not settled([0.05, 0.04, 0.03, 0.02, 0.015, 0.012])
    assert settled([0.05, 0.03, 0.01, 0.0101, 0.09, 0.01, 0.0102])
    assert settled([2.0, 1.0, 1.01]) and not settled([2.0, 1.0])  # seconds: each is an average already


def test_luck_of_a_launch_is_no_difference():
    """Of two equal programs, each launch of one is up to 4 % faster or slower than the other's, for all its rounds."""
    rng = np.random.default_rng(5)
    launches, false = np.arange(240) // 40, {True: 0, False: 0}
    for _ in range(60):
        luck = np.exp(rng.normal(0, 0.04, (2, 6)))[:, launches]
        times = np.exp(rng.normal(0, 0.005, (2, 240))) * luck
        for known in (True, False):
            ids = launches if known else None
            false[known] += ratio(times[0], times[1], ids).verdict != "no difference"
    assert false[True] <= 6  # of 60, 3 expected
    assert false[False] > 5  # who takes rounds for independent is deceived
    with pytest.raises(ValueError, match="5 or more"):
        ratio(times[0], times[1], launches // 2)


def test_moments_apart():
    rng = np.random.default_rng(1)

    def series(times: float, machine: float) -> Series:
        noise = np.exp(rng.normal(0, 0.03, (2, 40)))
        return Series(times * machine * noise[0], machine * noise[1], np.arange(40) // 4)

    a = series(1.0, 1.0)
    assert ratio_apart(a, series(1.0, 1.0)).verdict == "no difference"
    # The machine became slower, and the yardstick says so.
    assert ratio_apart(a, series(1.0, 1.4)).verdict == "no difference"
    assert ratio_apart(a, series(1.2, 1.0)).verdict == "slower"
    assert ratio_apart(a, series(1.03, 1.0)).verdict == "no difference"  # too little to tell from two moments
    assert ratio_apart(a, series(0.8, 1.0)).verdict == "faster"
