"""Smoothing a recording while it runs gives what smoothing all of it at once gives."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from posert.runtime.errors import InputError
from posert.runtime.pose.keypoints import Keypoints
from posert.runtime.smoothing import smooth_recording, smooth_tracks

JOINTS = 3


def recording(frames: int, people: int, seed: int) -> list[Keypoints]:
    """People who walk, are missing at times, and whose joints are unsure or jump at times."""
    rng = np.random.default_rng(seed)
    here = rng.random((people, frames)) > 0.15
    for person in range(people):  # a long absence each
        start = int(rng.integers(0, frames + 1))
        here[person, start : start + int(rng.integers(1, 30))] = False
    walk = np.cumsum(rng.normal(0, 1, (people, frames, 1, 2)), axis=1)
    xy = (100 + walk + rng.normal(0, 0.5, (people, frames, JOINTS, 2))).astype(np.float32)
    xy[rng.random(xy.shape[:3]) < 0.02] += 60
    score = rng.uniform(0.1, 1, (people, frames, JOINTS)).astype(np.float32)
    names = tuple("abc")
    found = []
    for t in range(frames):
        who = rng.permutation(np.flatnonzero(here[:, t]))
        found.append(Keypoints(xy[who, t], score[who, t], np.zeros((len(who), 4), np.float32), names, who))
    return found


@pytest.mark.parametrize(
    ("frames", "people", "window", "max_gap"),
    [(0, 1, 7, 10), (1, 1, 7, 10), (5, 2, 7, 10), (60, 3, 7, 10), (200, 4, 7, 10), (200, 2, 11, 3), (150, 0, 7, 10)],
)
def test_it_is_the_smoothing_of_the_whole(frames: int, people: int, window: int, max_gap: int) -> None:
    every = recording(frames, people, seed=frames + people)
    late = list(smooth_recording(iter(every), window=window, max_gap=max_gap))
    assert len(late) == frames
    if not people or not frames:
        return
    sizes = [len(one) for one in every]
    ids, xy, score = (np.concatenate([vars(one)[name] for one in every]) for name in ("ids", "xy", "score"))
    whole = smooth_tracks(np.repeat(np.arange(frames), sizes), ids, xy, score, window=window, max_gap=max_gap)
    # float32 of the same float64: sums of a window do not depend on what lies outside it
    np.testing.assert_allclose(np.concatenate([one.xy for one in late]), whole.xy[: len(xy)], atol=1e-4)
    for before, after in zip(every, late, strict=True):
        assert after.raw is before.xy and after.ids is before.ids


def test_it_takes_no_more_frames_than_it_needs() -> None:
    taken = itertools.count()

    def endless() -> Iterator[Keypoints]:
        for people in itertools.cycle(recording(50, 2, seed=1)):
            next(taken)
            yield people

    given = sum(1 for _ in itertools.islice(smooth_recording(endless()), 500))
    assert next(taken) - given < 2 * 7 + 10 + 2 * 16


def test_people_without_ids_are_refused() -> None:
    people = replace(recording(1, 1, seed=0)[0], ids=None)
    with pytest.raises(InputError, match="needs ids from a tracker"):
        list(smooth_recording([people]))
