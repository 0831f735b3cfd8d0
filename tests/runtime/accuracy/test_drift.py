"""The percentile of drift and its bounds, on distances whose truth is known; the classes; the DARK of each rule."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from posert.runtime.accuracy.drift import DARK_PEOPLE, by_height, dark, jumped, p95, sample
from posert.runtime.accuracy.people import People
from posert.runtime.datasets import dataset
from posert.tests.contracts import contract_of

COCO = dataset("coco")
CONTRACT = contract_of("coco", 192, 256)
TRUE_P95 = 2.9957  # of the exponential distribution: -log(0.05)


def distances(rng: np.random.Generator, people: int, alike: float = 0.0) -> np.ndarray:
    """Exponential, with a share that people have in common; NaN where a joint has no label."""
    drawn = rng.exponential(size=(people, 17))
    common = rng.random((people, 17)) < alike
    drawn = np.where(common, rng.exponential(size=(people, 1)), drawn)
    drawn[rng.random(drawn.shape) < 0.2] = np.nan
    return drawn.astype(np.float32)


def test_the_point_is_numpys_percentile_of_labelled_joints() -> None:
    drift = distances(np.random.default_rng(0), 50)
    found = p95(np.arange(50), drift)
    assert found.p95 == pytest.approx(np.nanpercentile(drift, 95)) and found.people == 50
    assert found.low < found.p95 < found.high


@pytest.mark.parametrize("alike", [0.0, 0.25])
@pytest.mark.parametrize("people", [5, 10, 20, 100])
def test_bounds_are_wrong_on_few_test_sets(people: int, alike: float) -> None:
    rng = np.random.default_rng(0)
    verdicts = [p95(np.arange(people), distances(rng, people, alike)).verdict(TRUE_P95) for _ in range(400)]
    # 5 % of 400 are 20, and 31 are 2.5 standard deviations more
    assert verdicts.count("passed") <= 31 and verdicts.count("failed") <= 31


def test_the_number_of_people_that_would_decide_does() -> None:
    rng = np.random.default_rng(0)
    few = p95(np.arange(20), distances(rng, 20))
    needed = few.people_needed(3.4)
    assert few.verdict(3.4) == "undecided" and needed is not None and 20 < needed < 1000
    enough = [p95(np.arange(2 * needed), distances(rng, 2 * needed)).verdict(3.4) for _ in range(20)]
    assert enough.count("passed") > 10


def test_joints_that_do_not_move_pass_from_a_hundred_on() -> None:
    still = np.zeros((10, 17), np.float32)
    assert p95(np.arange(10), still).verdict(0.0) == "passed"
    assert p95(np.arange(3), still[:3]).verdict(0.0) == "undecided"
    alone = p95(np.zeros(10, np.intp), still)
    assert alone.verdict(1.0) == "undecided" and alone.people_needed(1.0) is None and alone.high == math.inf


def test_more_drift_is_never_judged_milder() -> None:
    rng, order = np.random.default_rng(0), ["passed", "undecided", "failed"]
    drift = distances(rng, 60)
    ranks = [order.index(p95(np.arange(60), drift * np.float32(f)).verdict(3.0)) for f in (0.2, 0.7, 1, 1.4, 5)]
    assert ranks == sorted(ranks) and ranks[0] == 0 and ranks[-1] == 2


def test_classes_of_height() -> None:
    height = np.array([63.9] * 25 + [64.0] * 20 + [300.0] * 19)
    drift = np.repeat(np.arange(64.0)[:, None], 17, axis=1).astype(np.float32)
    drift[44] = np.nan  # nobody labelled this one: 19 are left
    small, middle, large, largest = by_height(height, drift, None)
    assert (small.people, middle.people, large.people, largest.people) == (25, 20, 0, 19)
    assert small.p95 == pytest.approx(np.percentile(np.repeat(np.arange(25), 17), 95))
    assert middle.p95 is None and large.p95 is None and largest.p95 is None


def test_a_jump_is_a_sixteenth_of_the_crops_longer_side() -> None:
    extent = np.array([[120, 160], [320, 240]], np.float32)
    drift = np.array([[9.9, 10.1, np.nan], [19.0, 21.0, 0.0]], np.float32)
    assert jumped(drift, extent) == pytest.approx(2 / 5)


@pytest.mark.parametrize(
    ("rule", "beside"),
    [
        ("default", "unbiased"),
        ("megvii", "unbiased"),
        ("hourglass", "unbiased"),
        ("simcc", "simcc_dark"),
        ("unbiased", None),
        ("udp", None),
        ("udp_heatmap", None),
        ("simcc_dark", None),
        ("udp_combined", None),
    ],
)
def test_the_dark_of_each_rule(rule: str, beside: str | None) -> None:
    found = dark(replace(CONTRACT, decode=rule))
    assert (found and found.decode) == beside


@pytest.mark.parametrize("people", [1, 50, DARK_PEOPLE, 1000])
def test_the_sample_is_spread_over_the_images_and_bounded(people: int) -> None:
    image = np.arange(people) // 2
    table = People((), image, (), np.arange(people), np.zeros((people, 4)), np.ones(people, np.float32))
    chosen = sample(table)
    assert len(chosen) == min(len(np.unique(image)), DARK_PEOPLE // 2)
    assert 0 in chosen and (len(chosen) == 1 or int(image.max()) in chosen)
