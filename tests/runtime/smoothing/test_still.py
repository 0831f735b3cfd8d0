"""Somebody who stands still: no filter moves a joint by more than the network's own jitter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posert.runtime.metrics.acceleration import acceleration
from posert.runtime.pose.keypoints import Keypoints
from posert.runtime.smoothing import OneEuro, smooth_recording

FPS = 25.0
Filter = Callable[[list[Keypoints]], list[Keypoints]]


def one_euro(frames: list[Keypoints], **settings: float) -> list[Keypoints]:
    """As the pipeline does for live use."""
    smoother = OneEuro(**settings)
    smoothed = (smoother(f.ids, f.xy, f.score, t / FPS) for t, f in enumerate(frames) if f.ids is not None)
    return [replace(f, xy=xy, raw=f.xy) for f, xy in zip(frames, smoothed, strict=True)]


def savitzky_golay(frames: list[Keypoints], **settings: int) -> list[Keypoints]:
    """As `posert run --smooth savitzky-golay` does."""
    return list(smooth_recording(frames, **settings))


FILTERS: dict[str, Filter] = {
    "one-euro": one_euro,
    "one-euro, quick": partial(one_euro, min_cutoff=5.0, beta=50.0),
    "savitzky-golay": savitzky_golay,
    "savitzky-golay 13, 3": partial(savitzky_golay, window=13, order=3),
}


def still(frames: int, jitter: float, outliers: float, unsure: float, seed: int) -> list[Keypoints]:
    """Two people whose true joints do not move; some joints jump, some have low scores."""
    rng = np.random.default_rng(seed)
    body = rng.uniform(0, 150, (2, 5, 2)) + np.array([[[100.0, 100.0]], [[400.0, 100.0]]])
    jumps = rng.random((frames, 2, 5, 1)) < outliers
    xy = body + rng.normal(0, jitter, (frames, 2, 5, 2)) * np.where(jumps, 15, 1)
    score = np.where(rng.random((frames, 2, 5)) < unsure, 0.1, 0.9)
    boxes, names = np.zeros((2, 4), np.float32), tuple("abcde")
    return [
        Keypoints(x.astype(np.float32), s.astype(np.float32), boxes, names, np.array([3, 8]))
        for x, s in zip(xy, score, strict=True)
    ]


@pytest.mark.parametrize("name", FILTERS)
@given(st.integers(1, 60), st.floats(0, 5), st.floats(0, 0.2), st.floats(0, 0.5), st.integers(0, 2**31))
def test_no_joint_moves_by_more_than_the_raw_jitter(
    name: str, frames: int, jitter: float, outliers: float, unsure: float, seed: int
) -> None:
    before = still(frames, jitter, outliers, unsure, seed)
    after = FILTERS[name](before)
    assert len(after) == frames
    raw, smooth = (np.stack([f.xy for f in several]).astype(np.float64) for several in (before, after))
    reach = np.ptp(raw, axis=0)
    slack = 1e-4  # single precision of 500 px
    assert (np.abs(smooth - raw) <= reach + slack).all()
    assert (smooth >= raw.min(axis=0) - slack).all() and (smooth <= raw.max(axis=0) + slack).all()


@pytest.mark.parametrize("name", FILTERS)
def test_the_jitter_falls(name: str) -> None:
    before = still(200, 1.0, 0.0, 0.0, 0)
    keys = np.zeros(400, int), np.repeat(np.arange(200), 2), np.tile([3, 8], 200)
    shaken = [
        acceleration(*keys, np.concatenate([f.xy for f in several]).astype(np.float64)).mean
        for several in (before, FILTERS[name](before))
    ]
    assert shaken[1] < 0.75 * shaken[0]
