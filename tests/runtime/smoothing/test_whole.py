"""Whole recordings: what is smoothed, filled and left alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import savgol_filter

from posert.runtime.errors import InputError
from posert.runtime.metrics.acceleration import acceleration, acceleration_error
from posert.runtime.smoothing import smooth_tracks


def motion(frames: int, joints: int = 4, seed: int = 0) -> np.ndarray:
    """`(T, K, 2)` that moves smoothly."""
    rng = np.random.default_rng(seed)
    t = np.arange(frames)[:, None, None]
    return 200 + 2 * t + 20 * np.sin(t * 0.15 + rng.uniform(0, 6, (joints, 2))) + rng.uniform(0, 80, (joints, 2))


def test_against_scipy_where_nothing_is_missing() -> None:
    truth = motion(60)
    seen = smooth_tracks(np.arange(60), np.zeros(60, int), truth, np.full((60, 4), 0.9))
    expected = np.clip(savgol_filter(truth, 7, 2, axis=0), truth.min(axis=0), truth.max(axis=0))
    np.testing.assert_allclose(
        seen.xy, expected, atol=0.1
    )  # Hampel takes a few tops of waves for outliers: lines there
    assert seen.added == 0


def test_acceleration_error_falls() -> None:
    truth = motion(100)
    raw = truth + np.random.default_rng(1).normal(0, 1.5, truth.shape)
    raw[40, 2] += 60  # an outlier
    rows = np.zeros(100, int), np.arange(100), np.zeros(100, int)
    seen = smooth_tracks(rows[1], rows[2], raw, np.ones((100, 4)))
    before, after = (acceleration_error(*rows, truth, xy).mean for xy in (raw, seen.xy))
    assert after < before / 3
    assert np.linalg.norm(seen.xy[40, 2] - truth[40, 2]) < 5
    assert np.linalg.norm(seen.xy - truth, axis=-1).mean() < np.linalg.norm(raw - truth, axis=-1).mean()


def test_several_instances_in_any_order() -> None:
    tracks = np.stack([motion(30, seed=s) for s in range(3)], axis=1)  # (T, P, K, 2)
    frame, ids = np.repeat(np.arange(30), 3), np.tile([4, 0, 9], 30)
    xy, score = tracks.reshape(90, 4, 2), np.random.default_rng(0).uniform(0.4, 1, (90, 4))
    order = np.random.default_rng(1).permutation(90)
    together = smooth_tracks(frame[order], ids[order], xy[order], score[order])
    for person in range(3):
        rows = np.arange(person, 90, 3)
        alone = smooth_tracks(frame[rows], ids[rows], xy[rows], score[rows])
        np.testing.assert_array_equal(together.xy[np.argsort(order)][rows], alone.xy)


@given(st.integers(1, 40), st.floats(0, 0.6), st.integers(0, 2**31))
def test_a_still_joint_stays_in_its_range(frames: int, share: float, seed: int) -> None:
    """And nothing becomes NaN that was not."""
    rng = np.random.default_rng(seed)
    xy = 300 + rng.normal(0, 2, (frames, 3, 2)) * rng.choice([1, 10], (frames, 3, 1), p=[0.9, 0.1])
    gone = rng.random((frames, 3)) < share / 2
    xy[gone] = np.nan
    score = np.where(rng.random((frames, 3)) < share, 0.1, 0.8)
    seen = smooth_tracks(np.arange(frames), np.zeros(frames, int), xy, score)
    for joint in range(3):
        here = ~gone[:, joint]
        if here.any():
            low, high = xy[here, joint].min(axis=0), xy[here, joint].max(axis=0)
            kept = seen.xy[np.isfinite(seen.xy[:, joint, 0]), joint]
            assert (kept >= low - 1e-9).all() and (kept <= high + 1e-9).all()
            assert np.isfinite(seen.xy[:frames][here, joint]).all()
    still = smooth_tracks(np.arange(frames), np.zeros(frames, int), np.full((frames, 3, 2), 5.0), score)
    np.testing.assert_allclose(still.xy, 5.0)
    assert np.isnan(acceleration([0] * 3, [0, 1, 2], [0] * 3, np.full((3, 1, 2), np.nan)).mean)


def test_missing_frames_become_rows() -> None:
    truth = motion(40)
    frames = np.r_[0:10, 14:20, 35:40]  # 4 frames missing, then 15: longer than max_gap
    score = np.full((len(frames), 4), 0.8)
    seen = smooth_tracks(frames, np.full(len(frames), 2), truth[frames], score, max_gap=10)
    assert seen.added == 4 and seen.frame[-4:].tolist() == [10, 11, 12, 13] and (seen.ids[-4:] == 2).all()
    assert np.linalg.norm(seen.xy[-4:] - truth[10:14], axis=-1).max() < 5  # a straight line across the wave
    np.testing.assert_allclose(seen.score[-4:], 0.8)
    far = smooth_tracks(frames, np.full(len(frames), 2), truth[frames], score, max_gap=3)
    assert far.added == 0


def test_low_scores() -> None:
    """Short: filled; long: as it came in."""
    truth = motion(40)
    raw, score = truth.copy(), np.full((40, 4), 0.9)
    raw[10:13, 1], score[10:13, 1] = 0, 0.1
    raw[20:35, 2], score[20:35, 2] = 0, 0.1
    seen = smooth_tracks(np.arange(40), np.zeros(40, int), raw, score)
    assert np.linalg.norm(seen.xy[10:13, 1] - truth[10:13, 1], axis=-1).max() < 3
    assert (seen.xy[20:35, 2] == 0).all()
    np.testing.assert_array_equal(seen.score, score)
    np.testing.assert_array_equal(raw[10:13, 1], 0)  # the raw joints are left alone


def test_rows_without_identity_and_nobody() -> None:
    xy = np.random.default_rng(0).uniform(0, 9, (4, 2, 2))
    seen = smooth_tracks([0, 0, 1, 2], [-1, -1, -1, 0], xy, np.ones((4, 2)))
    np.testing.assert_array_equal(seen.xy, xy)
    nobody = smooth_tracks([], [], np.zeros((0, 2, 2)), np.zeros((0, 2)))
    assert nobody.xy.shape == (0, 2, 2) and nobody.added == 0


def test_refusals() -> None:
    with pytest.raises(InputError, match="id 3 is twice in frame 1"):
        smooth_tracks([0, 1, 1], [3, 3, 3], np.zeros((3, 2, 2)), np.ones((3, 2)))
    with pytest.raises(InputError, match="expected"):
        smooth_tracks([0, 1], [3, 3, 3], np.zeros((3, 2, 2)), np.ones((3, 2)))
