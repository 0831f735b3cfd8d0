"""The simulation where its answer is known without it."""

from __future__ import annotations

import math

import pytest

from posert.benchmarks.annotate_simulation import Model, simulate

STILL = Model(1, 100.0, spread=0.0, start=3.0, driver=0.0)


def test_one_worker_does_one_shard_after_the_other() -> None:
    outcome = simulate(STILL, [100, 300, 50])
    assert outcome.seconds == pytest.approx(3 + 4.5)
    assert outcome.last == pytest.approx(0.5)
    assert (outcome.redone, outcome.driver_busy) == (0, 0)


def test_workers_take_the_next_shard_when_they_are_free() -> None:
    # the first worker: 400; the second: 100, 100, 100; then one of them the last
    assert simulate(Model(2, 100.0, 0, start=0, driver=0), [400, 100, 100, 100, 200]).seconds == pytest.approx(5.0)


@pytest.mark.parametrize("workers", [1, 7, 50])
def test_a_driver_is_a_limit(workers: int) -> None:
    """Shards of 0.1 s, and a driver that needs 10 ms for each: ten workers keep it busy, and more wait for it."""
    outcome = simulate(Model(workers, 1000.0, 0, start=0, driver=0.01), [100] * 2000)
    assert outcome.seconds == pytest.approx(max(2000 * 0.01, 2000 * 0.11 / workers), rel=0.03)
    assert outcome.driver_busy == pytest.approx(2000 * 0.01 / outcome.seconds, rel=0.05)


def test_storage_is_a_limit() -> None:
    # 50 workers would read 50 x 100 x 0.1 = 500 MB/s
    outcome = simulate(Model(50, 100.0, 0, start=0, driver=0, bandwidth=100.0, frame_mb=0.1), [500] * 1000)
    assert outcome.seconds == pytest.approx(500_000 * 0.1 / 100, rel=0.03)


def test_work_of_lost_workers_is_done_again() -> None:
    """A shard of t seconds, lost at a rate of l: it takes exp(l t) tries on average, and (exp(l t) - 1) / l seconds."""
    lost, seconds = 60.0, 30.0
    model = Model(1, 1.0, 0, start=0, driver=0, lost=lost, replaced=0)
    each = simulate(model, [30] * 3000).seconds / 3000
    rate = lost / 3600
    assert each == pytest.approx((math.exp(rate * seconds) - 1) / rate, rel=0.05)


def test_a_seed_decides() -> None:
    model = Model(8, 50.0, spread=0.2, speeds=0.2, lost=5.0)
    assert simulate(model, [100] * 200, 1) == simulate(model, [100] * 200, 1)
    assert simulate(model, [100] * 200, 1) != simulate(model, [100] * 200, 2)
