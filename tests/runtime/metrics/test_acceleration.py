"""Acceleration error against MMPose's formula on whole tracks, and what must not be counted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posert.runtime.errors import InputError
from posert.runtime.metrics.acceleration import acceleration, acceleration_error, consecutive


def rows_of(tracks: np.ndarray) -> tuple[np.ndarray, ...]:
    """clip, frame, ids and joints of `(T, P, K, 2)`: P instances through T frames of one clip."""
    frames, people = tracks.shape[:2]
    frame, ids = np.repeat(np.arange(frames), people), np.tile(np.arange(people), frames)
    return np.zeros_like(frame), frame, ids, tracks.reshape(frames * people, *tracks.shape[2:])


@given(st.integers(3, 12), st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**31))
def test_against_second_differences(frames: int, people: int, joints: int, seed: int) -> None:
    """The formula of SmoothNet and MMPose on each whole track, and any order of the rows."""
    rng = np.random.default_rng(seed)
    truth, found = rng.normal(0, 50, (2, frames, people, joints, 2))
    expected = np.linalg.norm(np.diff(found, 2, axis=0) - np.diff(truth, 2, axis=0), axis=-1)
    clip, frame, ids, xy = rows_of(truth)
    order = rng.permutation(len(xy))
    seen = acceleration_error(clip[order], frame[order], ids[order], xy[order], rows_of(found)[3][order])
    np.testing.assert_allclose(seen.mean, expected.mean(), rtol=1e-9)
    np.testing.assert_allclose(seen.joints, expected.mean(axis=(0, 1)), rtol=1e-9)
    np.testing.assert_allclose(seen.p95, np.percentile(expected, 95), rtol=1e-9)
    assert seen.count == expected.size
    alone = acceleration(clip, frame, ids, xy)
    np.testing.assert_allclose(alone.mean, np.linalg.norm(np.diff(truth, 2, axis=0), axis=-1).mean(), rtol=1e-9)


def test_steady_motion_has_none() -> None:
    tracks = np.arange(8.0)[:, None, None, None] * np.ones((1, 2, 3, 2)) * 2.5
    assert acceleration(*rows_of(tracks)).mean == 0.0


def test_no_acceleration_across_clips_gaps_and_ids() -> None:
    clip = [0, 0, 0, 0, 1, 1, 1, 1]
    frame = [0, 1, 2, 3, 0, 1, 3, 4]
    ids = [5, 5, 5, 6, 5, 5, 5, 5]
    triples = consecutive(clip, frame, ids)
    assert (triples.before.tolist(), triples.middle.tolist(), triples.after.tolist()) == ([0], [1], [2])
    assert len(consecutive(clip, frame, [-1] * 8).middle) == 0  # rows without an identity


def test_joints_that_do_not_count() -> None:
    tracks = np.random.default_rng(0).normal(size=(6, 1, 2, 2))
    clip, frame, ids, xy = rows_of(tracks)
    valid = np.ones((6, 2), np.bool_)
    valid[2, 1] = False  # the accelerations at 1, 2 and 3 need it
    xy[5, 0] = np.nan
    seen = acceleration(clip, frame, ids, xy, valid)
    length = np.linalg.norm(np.diff(tracks[:, 0], 2, axis=0), axis=-1)
    np.testing.assert_allclose(seen.joints, [length[:3, 0].mean(), length[3, 1]])
    assert seen.count == 4


def test_nothing_to_measure() -> None:
    nobody = acceleration([], [], [], np.zeros((0, 3, 2)))
    assert np.isnan(nobody.mean) and nobody.count == 0 and np.isnan(nobody.joints).all()
    assert np.isnan(acceleration([0, 0], [0, 1], [0, 0], np.zeros((2, 3, 2))).mean)


def test_refusals() -> None:
    joints = np.zeros((3, 2, 2))
    with pytest.raises(InputError, match="id 4 is twice in frame 1 of clip 0"):
        acceleration([0, 0, 0], [0, 1, 1], [4, 4, 4], joints)
    with pytest.raises(InputError, match=r"\(R,\) each"):
        acceleration([0, 0], [0, 1, 1], [4, 4, 4], joints)
    with pytest.raises(InputError, match="3 rows of joints and 2"):
        acceleration([0, 0], [0, 1], [4, 4], joints)
    with pytest.raises(InputError, match="one value per joint"):
        acceleration([0] * 3, [0, 1, 2], [4] * 3, joints, np.ones((3, 3)))
    with pytest.raises(InputError, match=r"truth is \(3, 2, 2\) and found"):
        acceleration_error([0] * 3, [0, 1, 2], [4] * 3, joints, np.zeros((3, 1, 2)))
