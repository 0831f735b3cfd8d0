"""Jitter, which AP cannot see: how joints accelerate from frame to frame.

The acceleration of a joint at frame t is `x[t - 1] - 2 x[t] + x[t + 1]`, in px of the frame per frame squared. Its mean
difference from the truth's is the acceleration error of SmoothNet (Zeng et al., ECCV 2022) and of MMPose's
`keypoint_accel_error`, in 2D. Where there is no truth, the mean acceleration itself compares two runs of one video.

People are rows: one instance in one frame of one clip. Rows of one instance are brought together by clip and id, so no
acceleration crosses the border of a clip, a frame in which the instance is missing, or a change of id.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError

Double = NDArray[np.float64]
Bool = NDArray[np.bool_]
Index = NDArray[np.intp]


@dataclass(frozen=True)
class Jitter:
    """A mean acceleration, or a mean error of accelerations.

    Attributes:
        mean: px of the frame per frame squared; NaN where nothing could be measured.
        p95: 95th percentile of the same, over joints and frames.
        joints: `(K,)` mean of each joint; NaN for a joint that was never measured.
        count: number of accelerations, one per joint and frame.
    """

    mean: float
    p95: float
    joints: Double
    count: int


def acceleration(
    clip: ArrayLike, frame: ArrayLike, ids: ArrayLike, xy: ArrayLike, valid: ArrayLike | None = None
) -> Jitter:
    """Mean length of the joints' accelerations. A static scene gives the jitter itself.

    Args:
        clip: `(R,)` number of each row's clip.
        frame: `(R,)` number of each row's frame within its clip; frames that follow one another differ by 1.
        ids: `(R,)` identity of each row's instance. Rows with a negative id are left out.
        xy: `(R, K, 2)` px of the frame.
        valid: `(R, K)` joints that count, such as those with a score above a threshold. None: all that are finite.

    Raises:
        InputError: the shapes do not fit, or an instance is twice in a frame.
    """
    points, usable = _points(xy, valid)
    triples = consecutive(clip, frame, ids)
    _check_rows(triples.rows, len(points))
    return _summary(_second_difference(points, triples), _in_all(usable, triples))


def acceleration_error(
    clip: ArrayLike,
    frame: ArrayLike,
    ids: ArrayLike,
    truth: ArrayLike,
    found: ArrayLike,
    valid: ArrayLike | None = None,
) -> Jitter:
    """Mean length of the difference between the accelerations of found and of true joints.

    Args:
        clip, frame, ids: as for `acceleration`; the ids are the truth's.
        truth: `(R, K, 2)` px of the frame.
        found: `(R, K, 2)` px of the frame; NaN where nothing was found for a row.
        valid: `(R, K)` joints that count, such as the labelled ones. None: all that are finite.

    Raises:
        InputError: the shapes do not fit, or an instance is twice in a frame.
    """
    true, known = _points(truth, valid)
    seen, usable = _points(found, valid)
    if true.shape != seen.shape:
        raise InputError(f"truth is {true.shape} and found {seen.shape}: both must be (R, K, 2), row for row")
    triples = consecutive(clip, frame, ids)
    _check_rows(triples.rows, len(true))
    return _summary(_second_difference(seen - true, triples), _in_all(known & usable, triples))


@dataclass(frozen=True)
class Triples:
    """Rows of one instance in three frames that follow one another, P times.

    Attributes:
        before, middle, after: `(P,)` rows.
        rows: number of rows that there are.
    """

    before: Index
    middle: Index
    after: Index
    rows: int


def consecutive(clip: ArrayLike, frame: ArrayLike, ids: ArrayLike) -> Triples:
    """Every three rows of one instance in frames t - 1, t and t + 1 of one clip; arguments as for `acceleration`.

    Raises InputError: the arrays are not of one length, or an instance is twice in a frame.
    """
    keys = [np.asarray(values) for values in (clip, frame, ids)]
    if any(values.ndim != 1 or len(values) != len(keys[0]) for values in keys):
        shapes = ", ".join(str(values.shape) for values in keys)
        raise InputError(f"clip, frame and ids must be one number per row, (R,) each; they are {shapes}")
    rows = np.flatnonzero(keys[2] >= 0)
    c, f, i = (values[rows] for values in keys)
    order = np.lexsort((f, i, c))
    rows, c, f, i = rows[order], c[order], f[order], i[order]
    same = (c[1:] == c[:-1]) & (i[1:] == i[:-1])
    step = same & (f[1:] - f[:-1] == 1)
    twice = same & (f[1:] == f[:-1])
    if twice.any():
        at = int(twice.argmax())
        raise InputError(f"id {i[at]} is twice in frame {f[at]} of clip {c[at]}: an instance is one row of a frame")
    first = np.flatnonzero(step[:-1] & step[1:])
    return Triples(rows[first], rows[first + 1], rows[first + 2], len(keys[2]))


def _points(xy: ArrayLike, valid: ArrayLike | None) -> tuple[Double, Bool]:
    points = np.asarray(xy, np.float64)
    if points.ndim != 3 or points.shape[2] != 2:
        raise InputError(f"joints must be (R, K, 2), x and y in px of the frame, not {points.shape}")
    finite = np.asarray(np.isfinite(points).all(axis=2))
    if valid is None:
        return points, finite
    counted = np.asarray(valid, np.bool_)
    if counted.shape != finite.shape:
        raise InputError(f"valid is {counted.shape}, expected one value per joint: {finite.shape}")
    return points, finite & counted


def _check_rows(rows: int, expected: int) -> None:
    if rows != expected:
        raise InputError(f"there are {expected} rows of joints and {rows} of clip, frame and ids")


def _second_difference(points: Double, triples: Triples) -> Double:
    """`(P, K)` lengths; NaN where one of the three is."""
    with np.errstate(invalid="ignore"):
        change: Any = points[triples.before] - 2 * points[triples.middle] + points[triples.after]
        return np.asarray(np.hypot(change[..., 0], change[..., 1]))


def _in_all(usable: Bool, triples: Triples) -> Bool:
    return usable[triples.before] & usable[triples.middle] & usable[triples.after]


def _summary(length: Double, counted: Bool) -> Jitter:
    values = length[counted]
    number = counted.sum(axis=0)
    total = np.where(counted, length, 0).sum(axis=0)
    joints = np.divide(total, number, out=np.full(len(number), np.nan), where=number > 0)
    if not len(values):
        return Jitter(float("nan"), float("nan"), joints, 0)
    return Jitter(float(values.mean()), float(np.percentile(values, 95)), joints, len(values))
