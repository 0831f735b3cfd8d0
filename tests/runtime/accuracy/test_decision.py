"""The verdict's error rates, on losses whose truth is known, and its edges."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from posert.runtime.accuracy.decision import Loss, Shares, bounds, oks_shares, pck_shares
from posert.runtime.metrics.oks_matching import THRESHOLDS
from posert.runtime.metrics.student import student

JOINTS = 17
ERROR = 0.05  # of an int8 graph


def losses(rng: np.random.Generator, people: int, mean: float) -> tuple[Shares, Shares]:
    """A graph that loses `mean`: small noise for everyone, and a joint or two that jump for a few."""
    image = np.arange(people) // 2
    before = np.clip(rng.beta(20, 2, people), 0, 1)
    jumps = rng.binomial(2, min(1, mean / 0.1), people) * 0.05
    after = before - jumps + rng.normal(0, 0.004, people)
    ones = np.ones(people)
    return Shares(image, before, ones, 2 / JOINTS), Shares(image, after, ones, 2 / JOINTS)


@pytest.mark.parametrize("people", [20, 60, 200, 1000])
@pytest.mark.parametrize(
    ("mean", "forbidden"), [(0.0, "failed"), (0.005, "failed"), (0.005, "passed"), (0.02, "passed")]
)
def test_wrong_verdicts_are_rare(people: int, mean: float, forbidden: str) -> None:
    rng = np.random.default_rng(0)
    verdicts = [bounds(*losses(rng, people, mean), ERROR).verdict(0.005) for _ in range(400)]
    # 5 % of 400 are 20, and 31 are 2.5 standard deviations more
    assert verdicts.count(forbidden) <= 31


def test_the_truth_is_found_with_enough_people() -> None:
    rng = np.random.default_rng(0)
    assert bounds(*losses(rng, 2000, 0.0), ERROR).verdict(0.005) == "passed"
    assert bounds(*losses(rng, 2000, 0.02), ERROR).verdict(0.005) == "failed"
    few = bounds(*losses(rng, 22, 0.0), ERROR)
    assert few.verdict(0.005) == "undecided"
    needed = few.people_needed(0.005)
    assert needed is not None and 30 < needed < 300
    enough = [bounds(*losses(rng, needed, 0.0), ERROR).verdict(0.005) for _ in range(50)]
    assert enough.count("passed") > 25, "the number that would decide does decide as often as not"


def test_a_graph_as_exact_as_its_reference_needs_few_people() -> None:
    rng = np.random.default_rng(0)
    before, _ = losses(rng, 6, 0.0)
    assert bounds(before, before, 1e-6).verdict(0.005) == "passed"
    assert bounds(before, before, ERROR).verdict(0.005) == "undecided"


def test_one_image_decides_nothing() -> None:
    rng = np.random.default_rng(0)
    before, after = losses(rng, 2, 0.0)
    loss = bounds(before, after, ERROR)
    assert loss.images == 1 and loss.verdict(0.005) == "undecided" and loss.people_needed(0.005) is None


def test_a_loss_that_is_what_is_allowed_is_never_told() -> None:
    loss = Loss(0.005, 0.004, 0.006, 1000, 500, 0.05, 0.1)
    assert loss.verdict(0.005) == "undecided" and loss.people_needed(0.005) is None


def test_images_are_the_unit_of_the_spread() -> None:
    """People of one image resemble each other: ten copies of each say no more than one."""
    rng = np.random.default_rng(0)
    before, after = losses(rng, 40, 0.01)
    before, after = (replace(s, image=np.arange(40)) for s in (before, after))
    once = bounds(before, after, ERROR)
    copies = [
        Shares(np.repeat(s.image, 10), np.repeat(s.score, 10), np.repeat(s.count, 10), s.joint) for s in (before, after)
    ]
    tenfold = bounds(*copies, ERROR)
    assert tenfold.point == pytest.approx(once.point)
    assert tenfold.high - tenfold.low > 0.5 * (once.high - once.low)


def test_shares_of_thresholds_follow_ap() -> None:
    """The mean over AP's ten thresholds is within half a step of the share of all of them."""
    similarity = np.linspace(0, 1, 1001)
    image = np.zeros(1001, np.intp)
    steps = (similarity[:, None] >= THRESHOLDS).mean(axis=1)
    shares = oks_shares(image, similarity, JOINTS)
    assert np.abs(shares.score - steps).max() <= 0.05 + 1e-9
    assert shares.mean == pytest.approx(steps.mean(), abs=1e-3)
    assert shares.joint == pytest.approx(2 / JOINTS)


def test_shares_of_pck_count_labelled_joints() -> None:
    distance = np.array([[0.0, 0.05, np.nan], [0.1, 0.2, 0.025]])
    shares = pck_shares(np.arange(2), distance)
    assert shares.score.tolist() == pytest.approx([1.5, 0.75]) and shares.count.tolist() == [2, 3]
    assert shares.mean == pytest.approx(2.25 / 5)


@pytest.mark.parametrize("df", [3, 5, 20, 200])
@pytest.mark.parametrize("p", [0.95, 0.97, 0.975])
def test_student(p: float, df: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    assert student(p, df) == pytest.approx(stats.t.ppf(p, df), rel=0.02)
    assert math.isclose(student(1 - p, df), -student(p, df))
