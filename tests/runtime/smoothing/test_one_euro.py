"""The one-euro filter against its authors' algorithm on single numbers, and what holds for any input."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posert.runtime.errors import InputError
from posert.runtime.smoothing import OneEuro

FPS = 25.0


class PaperOneEuro:
    """Algorithm 1 of Casiez et al., CHI 2012, for one point; the speed is the length of the vector over `size`."""

    def __init__(self, min_cutoff: float, beta: float, speed_cutoff: float) -> None:
        self.min_cutoff, self.beta, self.speed_cutoff = min_cutoff, beta, speed_cutoff
        self.last: list[float] | None = None
        self.speed = [0.0, 0.0]

    @staticmethod
    def alpha(rate: float, cutoff: float) -> float:
        tau = 1 / (2 * math.pi * cutoff)
        return 1 / (1 + tau * rate)

    def __call__(self, point: list[float], rate: float, size: float) -> list[float]:
        if self.last is None:
            self.last = list(point)
            return self.last
        a = self.alpha(rate, self.speed_cutoff)
        change = [(new - old) * rate for new, old in zip(point, self.last, strict=True)]
        self.speed = [a * new + (1 - a) * old for new, old in zip(change, self.speed, strict=True)]
        b = self.alpha(rate, self.min_cutoff + self.beta * math.hypot(*self.speed) / size)
        self.last = [b * new + (1 - b) * old for new, old in zip(point, self.last, strict=True)]
        return self.last


def diagonal(xy: np.ndarray) -> float:
    return float(np.hypot(*np.ptp(xy, axis=0)))


@pytest.mark.parametrize("settings", [(1.0, 0.0, 1.0), (0.3, 5.0, 1.0), (2.0, 20.0, 0.5)])
def test_as_published(settings: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(0)
    xy = np.cumsum(rng.normal(0, 5, (40, 5, 2)), axis=0) + rng.uniform(0, 200, (5, 2))
    smoother, each = OneEuro(*settings), [PaperOneEuro(*settings) for _ in range(5)]
    for frame, joints in enumerate(xy):
        seen = smoother([7], joints[None], np.ones((1, 5)), frame / FPS)
        expected = [one(joint.tolist(), FPS, diagonal(joints)) for one, joint in zip(each, joints, strict=True)]
        np.testing.assert_allclose(seen[0], expected, rtol=1e-5)  # float32 comes out


def smoothed(xy: np.ndarray, score: np.ndarray | None = None, **settings: float) -> np.ndarray:
    """`(T, K, 2)` of one instance."""
    smoother = OneEuro(**settings)
    score = np.ones(xy.shape[:2]) if score is None else score
    return np.stack(
        [smoother([0], x[None], s[None], t / FPS)[0] for t, (x, s) in enumerate(zip(xy, score, strict=True))]
    )


@given(st.integers(1, 25), st.floats(0, 30), st.integers(0, 2**31))
def test_a_still_joint_stays_in_its_range(frames: int, beta: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    xy = 100 + rng.normal(0, rng.uniform(0, 5), (frames, 3, 2))
    seen = smoothed(xy, rng.uniform(0, 1, (frames, 3)), beta=beta)
    lowest, highest = np.minimum.accumulate(xy, axis=0), np.maximum.accumulate(xy, axis=0)
    assert (seen >= lowest - 1e-4).all() and (seen <= highest + 1e-4).all()  # single precision of 100 px
    assert (np.abs(seen - xy) <= np.ptp(xy, axis=0) + 1e-4).all()


def test_jitter_falls_and_scale_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    body = rng.uniform(0, 100, (17, 2))
    xy = body + rng.normal(0, 1, (50, 17, 2))
    seen = smoothed(xy)
    jitter = [np.linalg.norm(np.diff(x, 2, axis=0), axis=-1).mean() for x in (xy, seen)]
    assert jitter[1] < 0.5 * jitter[0]
    np.testing.assert_allclose(smoothed(xy * 4), seen * 4, rtol=1e-5)
    np.testing.assert_allclose(smoothed(xy + 500), seen + 500, atol=1e-4)


def test_frame_rate_does_not_matter_much() -> None:
    """Twice as many frames of the same motion are smoothed over the same time."""
    t = np.arange(200) / 50
    xy = np.stack([60 * np.sin(t), 40 * np.cos(t)], axis=-1)[:, None] + np.array([[0, 0], [50, 120]])
    fast, slow = OneEuro(beta=0), OneEuro(beta=0)
    all_frames = [fast([0], x[None], np.ones((1, 2)), s)[0] for x, s in zip(xy, t, strict=True)]
    half = [slow([0], x[None], np.ones((1, 2)), s)[0] for x, s in zip(xy[::2], t[::2], strict=True)]
    # both lag behind by about 160 ms; a step of 20 ms more or less makes the difference
    assert np.abs(np.stack(all_frames)[::2][20:] - np.stack(half)[20:]).max() < 60 * 0.02


def test_low_scores_weigh_less() -> None:
    xy = np.zeros((2, 2, 2))
    xy[:, 1], xy[1, 0] = 100, 10
    moved = [smoothed(xy, np.array([[1, 1], [s, 1]]))[1, 0, 0] for s in (0.0, 0.1, 0.3, 1.0)]
    assert moved[0] == 0 < moved[1] < moved[2] == moved[3] < 10


def test_nan_does_not_stay() -> None:
    xy = np.random.default_rng(0).uniform(0, 100, (40, 3, 2))
    xy[5:8, 1] = np.nan  # a short gap: the joint stays where it was
    xy[20:36, 2] = np.nan  # longer than max_gap, 0.5 s
    seen = smoothed(xy)
    assert np.isfinite(seen[:, :2]).all() and (seen[5:8, 1] == seen[4, 1]).all()
    assert np.isfinite(seen[20:32, 2]).all() and np.isnan(seen[33:36, 2]).all()
    np.testing.assert_allclose(seen[36, 2], xy[36, 2], rtol=1e-6)  # anew, at its raw place
    nowhere = smoothed(np.full((3, 2, 2), np.nan))
    assert np.isnan(nowhere).all()  # never seen: there is no place to give


def test_instances_are_apart() -> None:
    """Rows in any order, instances that come and go; each as if it were alone."""
    rng = np.random.default_rng(0)
    xy = rng.uniform(0, 100, (30, 4, 3, 2))
    present = rng.random((30, 4)) < 0.7
    together = OneEuro()
    alone = [OneEuro() for _ in range(4)]
    for t in range(30):
        who = rng.permutation(np.flatnonzero(present[t]))
        seen = together(who, xy[t, who], np.ones((len(who), 3)), t / FPS)
        for row, i in enumerate(who):
            np.testing.assert_array_equal(seen[row], alone[i]([i], xy[t, [i]], np.ones((1, 3)), t / FPS)[0])


def test_somebody_returns_after_long() -> None:
    smoother, xy = OneEuro(), np.zeros((1, 2, 2))
    smoother([3], xy, np.ones((1, 2)), 0.0)
    smoother([4], xy, np.ones((1, 2)), 1.0)
    np.testing.assert_array_equal(smoother([3], xy + 50, np.ones((1, 2)), 2.0), xy + 50)


def test_rows_without_identity_stay() -> None:
    smoother, xy = OneEuro(), np.random.default_rng(0).uniform(0, 9, (3, 2, 2)).astype(np.float32)
    for t in range(3):
        seen = smoother([-1, 0, -1], xy + t, np.ones((3, 2)), float(t))
        np.testing.assert_array_equal(seen[[0, 2]], (xy + t)[[0, 2]])
    assert smoother([], np.zeros((0, 2, 2)), np.zeros((0, 2)), 5.0).shape == (0, 2, 2)


def test_refusals() -> None:
    smoother, xy, score = OneEuro(), np.zeros((2, 3, 2)), np.ones((2, 3))
    smoother([0, 1], xy, score, 1.0)
    with pytest.raises(InputError, match=r"time is 1.0 s, expected more than 1.0 s: reset\(\)"):
        smoother([0, 1], xy, score, 1.0)
    with pytest.raises(InputError, match="twice"):
        smoother([1, 1], xy, score, 2.0)
    with pytest.raises(InputError, match="expected"):
        smoother([0], xy, score, 2.0)
    with pytest.raises(InputError, match="2 joints, those before 3"):
        smoother([0, 1], xy[:, :2], score[:, :2], 2.0)
    with pytest.raises(InputError, match="above 0"):
        OneEuro(min_cutoff=0)
    smoother.reset()
    smoother([0], xy[:1, :2], score[:1, :2], 0.5)
