"""Smooth a recording of any length while it runs, a few frames late."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from ..errors import InputError, PosertError
from ..pose.keypoints import Keypoints
from .whole import smooth_tracks

_TOGETHER = 16  # frames that are smoothed at a time: more are cheaper, and later


def smooth_recording(
    frames: Iterable[Keypoints], *, window: int = 7, order: int = 2, min_score: float = 0.3, max_gap: int = 10
) -> Iterator[Keypoints]:
    """Each frame with its joints smoothed as by `smooth_tracks`, and the network's in `raw`.

    A result depends on no frame that is further away than `2 * window + max_gap`. So each comes some 40 frames late,
    and memory does not grow. Frames in which an instance is missing get no row.

    Args:
        frames: every frame of one video, with ids.
        window, order, min_score, max_gap: as for `smooth_tracks`.

    Raises:
        InputError: a frame without ids, or as `smooth_tracks`.
        PosertError: what `frames` raises, after the frames before it.
    """
    reach = 2 * window + max_gap
    held: list[Keypoints] = []
    given = 0  # frames of `held` that were yielded
    source = iter(frames)
    more, failure = True, None
    while more:
        while len(held) < given + reach + _TOGETHER:
            try:
                people = next(source, None)
            except PosertError as error:  # raised in its place, after the frames before it
                people, failure = None, error
            if people is None:
                more = False
                break
            if people.ids is None:
                raise InputError("smoothing follows people from frame to frame: it needs ids from a tracker")
            held.append(people)
        until = given + _TOGETHER if more else len(held)
        yield from _smoothed(held, given, until, window, order, min_score, max_gap)
        kept = max(0, until - reach)
        held, given = held[kept:], until - kept
    if failure is not None:
        raise failure


def _smoothed(
    held: list[Keypoints], first: int, last: int, window: int, order: int, min_score: float, max_gap: int
) -> Iterator[Keypoints]:
    """The frames from `first` to before `last`, smoothed with all that are held."""
    sizes = [len(people) for people in held]
    if not sum(sizes):
        yield from (replace(people, raw=people.xy) for people in held[first:last])
        return
    ids, xy, score = (np.concatenate([getattr(p, name) for p in held]) for name in ("ids", "xy", "score"))
    frame = np.repeat(np.arange(len(held)), sizes)
    smooth = smooth_tracks(
        frame, ids, xy, score, window=window, order=order, min_score=min_score, max_gap=max_gap
    ).xy.astype(np.float32)
    ends = np.cumsum(sizes)
    for people, end in zip(held[first:last], ends[first:last], strict=True):
        yield replace(people, xy=smooth[end - len(people) : end], raw=people.xy)
