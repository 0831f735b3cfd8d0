"""The jitter of a run is that of `metrics.acceleration` on the same frames."""

from __future__ import annotations

import numpy as np
import pytest

from posert.runtime.metrics.acceleration import acceleration
from posert.runtime.page.jitter import RunJitter
from posert.runtime.pose.keypoints import Keypoints

JOINTS = 4


def frame(rng: np.random.Generator, ids: list[int], smoothed: bool = False) -> Keypoints:
    n = len(ids)
    xy = rng.uniform(0, 100, (n, JOINTS, 2)).astype(np.float32)
    score = rng.uniform(0, 1, (n, JOINTS)).astype(np.float32)
    raw = xy + rng.normal(0, 1, xy.shape).astype(np.float32) if smoothed else None
    names = tuple("abcd")
    return Keypoints(xy, score, np.zeros((n, 4), np.float32), names, np.array(ids, np.int64), None, raw)


@pytest.mark.parametrize("smoothed", [False, True])
def test_against_the_whole_recording(smoothed: bool) -> None:
    rng = np.random.default_rng(4)
    who = [rng.permutation([i for i in range(5) if rng.random() < 0.8]).tolist() for _ in range(40)]
    frames = [frame(rng, ids, smoothed) for ids in who]
    jitter = RunJitter(0.3)
    for people in frames:
        jitter.add(people)
    number = np.repeat(np.arange(40), [len(ids) for ids in who])
    ids = np.concatenate([f.ids for f in frames if f.ids is not None])
    valid = np.concatenate([f.score for f in frames]) >= 0.3
    for name, xy in (("smoothed" if smoothed else "joints", [f.xy for f in frames]), ("raw", [f.raw for f in frames])):
        if name == "raw" and not smoothed:
            continue
        expected = acceleration(
            np.zeros(len(number)), number, ids, np.concatenate([x for x in xy if x is not None]), valid
        )
        assert jitter.figures()[name] == pytest.approx(expected.mean, rel=1e-5)  # float32 differences
    assert len(jitter.figures()) == 1 + smoothed


def test_a_frame_that_failed_interrupts() -> None:
    rng = np.random.default_rng(0)
    jitter = RunJitter(0.0)
    for people in (frame(rng, [1]), frame(rng, [1]), None, frame(rng, [1]), frame(rng, [1])):
        jitter.add(people)
    assert jitter.figures() == {}


def test_one_person_without_an_id_is_the_same_person() -> None:
    rng = np.random.default_rng(0)
    jitter = RunJitter(0.0)
    for _ in range(3):
        one = frame(rng, [1])
        jitter.add(Keypoints(one.xy, one.score, one.boxes, one.names))
    assert list(jitter.figures()) == ["joints"]
    crowd = RunJitter(0.0)
    for _ in range(3):
        two = frame(rng, [1, 2])
        crowd.add(Keypoints(two.xy, two.score, two.boxes, two.names))
    assert crowd.figures() == {}
