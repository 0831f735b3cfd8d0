"""Smooth the tracks of a whole recording: outliers out, short gaps filled, Savitzky-Golay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from .outliers import fill_gaps, hampel
from .savitzky_golay import savitzky_golay

Double = NDArray[np.float64]
Index = NDArray[np.intp]


@dataclass(frozen=True)
class SmoothTracks:
    """R rows as they came in, smoothed, and behind them rows for the frames in which an instance was missing.

    Attributes:
        frame: `(R',)` frame numbers.
        ids: `(R',)` identities.
        xy: `(R', K, 2)` smoothed joints, px of the frame; NaN only where a joint was NaN throughout a long gap.
        score: `(R', K)` as they came in; of a filled joint the lower one of those at both ends of the gap.
        added: number of rows that were added.
    """

    frame: NDArray[np.int64]
    ids: NDArray[np.int64]
    xy: Double
    score: Double
    added: int


def smooth_tracks(
    frame: ArrayLike,
    ids: ArrayLike,
    xy: ArrayLike,
    score: ArrayLike,
    *,
    window: int = 7,
    order: int = 2,
    min_score: float = 0.3,
    max_gap: int = 10,
) -> SmoothTracks:
    """Smooth the joints of every instance of one video.

    Joints that were not found (NaN), have a low score or are outliers (Hampel) are gaps. Gaps of up to `max_gap` frames
    are filled by straight lines. Then each joint is smoothed with its scores as weights; it never leaves the range of
    the positions around it. In a longer gap it stays as it came in.

    Args:
        frame: `(R,)` number of each row's frame.
        ids: `(R,)` identities; rows with a negative id are returned as they are.
        xy: `(R, K, 2)` px of the frame.
        score: `(R, K)`.
        window, order: of the Savitzky-Golay filter, and the window of the Hampel filter.
        min_score: joints with a lower score are gaps.
        max_gap: frames.

    Raises:
        InputError: shapes that do not fit, or an instance that is twice in a frame.
    """
    when, who = np.asarray(frame, np.int64), np.asarray(ids, np.int64)
    raw, seen = np.asarray(xy, np.float64), np.asarray(score, np.float64)
    if (
        raw.ndim != 3
        or raw.shape[2] != 2
        or seen.shape != raw.shape[:2]
        or not when.shape == who.shape == raw.shape[:1]
    ):
        raise InputError(
            f"frame, ids, xy and score are {when.shape}, {who.shape}, {raw.shape} and {seen.shape}, expected (R,), "
            "(R,), (R, K, 2) and (R, K)"
        )
    smooth, more = raw.copy(), []
    for rows in _pieces(when, who, max_gap):
        first, number = when[rows[0]], who[rows[0]]
        at = when[rows] - first
        points, weight = np.full((at[-1] + 1, *raw.shape[1:]), np.nan), np.zeros((at[-1] + 1, raw.shape[1]))
        points[at], weight[at] = raw[rows], np.nan_to_num(seen[rows])
        done, weight = _smooth(points, weight, window, order, min_score, max_gap)
        smooth[rows] = done[at]
        absent = np.setdiff1d(np.arange(len(done)), at)
        more.append((absent + first, np.full(len(absent), number), done[absent], weight[absent]))
    frames, owners, joints, scores = zip((when, who, smooth, seen), *more, strict=True)
    return SmoothTracks(
        np.concatenate(frames),
        np.concatenate(owners),
        np.concatenate(joints),
        np.concatenate(scores),
        added=sum(map(len, frames)) - len(when),
    )


def _pieces(when: NDArray[np.int64], who: NDArray[np.int64], max_gap: int) -> list[Index]:
    """The rows of each instance in the order of their frames, apart where it was missing for long."""
    rows = np.flatnonzero(who >= 0)
    rows = rows[np.lexsort((when[rows], who[rows]))]
    same, step = np.diff(who[rows]) == 0, np.diff(when[rows])
    if (same & (step == 0)).any():
        at = rows[int((same & (step == 0)).argmax())]
        raise InputError(f"id {who[at]} is twice in frame {when[at]}: an instance is one row of a frame")
    return np.split(rows, np.flatnonzero(~same | (step > max_gap + 1)) + 1) if len(rows) else []


def _smooth(
    raw: Double, score: Double, window: int, order: int, min_score: float, max_gap: int
) -> tuple[Double, Double]:
    """Joints `(T, K, 2)` of one instance, smoothed, and their scores; NaN and 0 in frames in which it is missing."""
    gap = ~np.isfinite(raw).all(axis=2) | (score < min_score)
    known = np.where(gap[..., None], np.nan, raw)
    known[hampel(known, window).any(axis=2)] = np.nan
    filled = fill_gaps(known, max_gap)
    usable, fair = np.asarray(np.isfinite(filled).all(axis=2)), np.isfinite(known).all(axis=2)
    weight = np.where(fair, score, np.where(usable, _lower_end(np.where(fair, score, np.nan)), 0))
    done = savitzky_golay(filled, window, order, np.repeat(weight[..., None], 2, axis=2))
    low, high = _range(filled, window)
    done = np.where(usable[..., None], np.clip(done, low, high), raw)
    return done, np.where(usable, weight, score)


def _lower_end(score: Double) -> Double:
    """`(T, K)` scores, with those that are NaN replaced by the lower one of the two next to the gap."""
    frames = len(score)
    place, known = np.arange(frames)[:, None], np.isfinite(score)
    before = np.maximum.accumulate(np.where(known, place, 0), axis=0)
    after = np.minimum.accumulate(np.where(known, place, frames - 1)[::-1], axis=0)[::-1]
    ends = np.take_along_axis(score, before, axis=0), np.take_along_axis(score, after, axis=0)
    return np.fmin(*ends)


def _range(values: Double, window: int) -> tuple[Double, Double]:
    """Lowest and highest value of the window around each frame, as the filter takes it; without NaN."""
    frames, width = len(values), min(window, len(values))
    first = np.clip(np.arange(frames) - window // 2, 0, frames - width)
    low = sliding_window_view(np.where(np.isnan(values), np.inf, values), width, axis=0).min(axis=-1)[first]
    high = sliding_window_view(np.where(np.isnan(values), -np.inf, values), width, axis=0).max(axis=-1)[first]
    return low, high
