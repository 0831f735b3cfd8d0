"""The one-euro filter: for live use, because it needs no future frames."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError

Double = NDArray[np.float64]


class OneEuro:
    """Smooths the joints of each instance as its frames arrive (Casiez, Roussel and Vogel, CHI 2012).

    A low-pass filter whose cutoff rises with speed: still joints are smoothed much and moving ones lag little. The
    speed is in sizes of the instance per second, so that people near to the camera and far from it, in small frames
    and in large ones, are smoothed alike.

    What comes out lies between what came in: a joint of somebody who stands still never leaves the range of its raw
    positions.

    Args:
        min_cutoff: Hz, of a joint at rest. Lower: smoother, and later.
        beta: Hz per (size per second). Higher: less late when a joint moves.
        speed_cutoff: Hz, of the low-pass filter of the speed.
        min_score: joints with a lower score weigh less, in proportion.
        max_gap: seconds after which an instance or a joint that was not seen starts anew, at its raw position.
    """

    def __init__(
        self,
        min_cutoff: float = 1.0,
        beta: float = 20.0,
        speed_cutoff: float = 1.0,
        *,
        min_score: float = 0.3,
        max_gap: float = 0.5,
    ) -> None:
        if min(min_cutoff, speed_cutoff, min_score, max_gap) <= 0 or beta < 0:
            raise InputError(
                f"min_cutoff {min_cutoff}, speed_cutoff {speed_cutoff}, min_score {min_score} and max_gap {max_gap} "
                f"must be above 0, and beta {beta} must not be below it"
            )
        self._min_cutoff, self._beta, self._speed_cutoff = min_cutoff, beta, speed_cutoff
        self._min_score, self._max_gap = min_score, max_gap
        self.reset()

    def reset(self) -> None:
        """Forget all instances, before another video."""
        self._ids = np.zeros(0, np.int64)  # ascending
        self._xy: Double = np.zeros((0, 0, 2))
        self._velocity: Double = np.zeros((0, 0, 2))
        self._time: Double = np.zeros((0, 0))  # when each joint was seen last
        self._now = -np.inf

    def __call__(self, ids: ArrayLike, xy: ArrayLike, score: ArrayLike, time: float) -> NDArray[np.float32]:
        """The smoothed joints of a frame.

        Args:
            ids: `(N,)` identities. Rows with a negative id are returned as they are.
            xy: `(N, K, 2)` px of the frame; NaN for a joint that was not found, which stays where it was.
            score: `(N, K)`.
            time: of the frame, seconds; later than the frame before.

        Returns:
            `(N, K, 2)` float32 px of the frame. NaN only where a joint is NaN and was not seen for `max_gap`.

        Raises:
            InputError: shapes that do not fit, an id that is there twice, or a time that does not go on.
        """
        who, raw, weight = self._checked(ids, xy, score, time)
        out = raw.astype(np.float32)
        rows = np.flatnonzero(who >= 0)
        rows = rows[np.argsort(who[rows])]
        self._now = time
        if not len(rows):
            return out
        slots = self._slots(who[rows], raw.shape[1])
        out[rows] = self._step(slots, raw[rows], weight[rows], time)
        return out

    def _step(self, slots: NDArray[np.intp], raw: Double, weight: Double, time: float) -> Double:
        seen = _finite(raw)
        before, passed = self._xy[slots], time - self._time[slots]
        with np.errstate(invalid="ignore"):
            anew = np.asarray(seen & ~(passed <= self._max_gap))  # NaN: never seen
        raw = np.where(seen[..., None], raw, before)
        start = anew[..., None] | ~np.isfinite(before)
        before = np.where(start, raw, before)
        velocity = np.where(start, 0, self._velocity[slots])
        step = np.where(np.isfinite(passed) & ~anew, passed, 1.0)[..., None]
        velocity = velocity + _share(self._speed_cutoff, step) * ((raw - before) / step - velocity)
        speed: Any = np.hypot(velocity[..., 0], velocity[..., 1])[..., None] / _size(raw)[:, None, None]
        share = _share(self._min_cutoff + self._beta * np.nan_to_num(speed), step) * weight[..., None]
        smooth = before + share * (raw - before)
        kept = seen[..., None]
        self._xy[slots] = np.where(kept, smooth, self._xy[slots])
        self._velocity[slots] = np.where(kept, velocity, self._velocity[slots])
        self._time[slots] = np.where(seen, time, self._time[slots])
        with np.errstate(invalid="ignore"):
            held = np.asarray(seen | (time - self._time[slots] <= self._max_gap))
        return np.where(held[..., None], smooth, np.nan)

    def _slots(self, who: NDArray[np.int64], joints: int) -> NDArray[np.intp]:
        """Where the state of each of these ascending ids is; new ones are added, and those long unseen forgotten."""
        if not len(self._ids):
            self._xy, self._velocity, self._time = (np.zeros((0, joints, *more)) for more in ((2,), (2,), ()))
        with np.errstate(invalid="ignore"):  # NaN: never seen
            fresh = (self._now - self._time <= self._max_gap).any(axis=1)
        every = np.union1d(self._ids[fresh], who)
        old = np.searchsorted(every, self._ids[fresh])
        xy, velocity = np.full((len(every), joints, 2), np.nan), np.zeros((len(every), joints, 2))
        seen = np.full((len(every), joints), np.nan)
        xy[old], velocity[old], seen[old] = self._xy[fresh], self._velocity[fresh], self._time[fresh]
        self._ids, self._xy, self._velocity, self._time = every, xy, velocity, seen
        return np.searchsorted(every, who)

    def _checked(
        self, ids: ArrayLike, xy: ArrayLike, score: ArrayLike, time: float
    ) -> tuple[NDArray[np.int64], Double, Double]:
        who, raw, seen = np.asarray(ids, np.int64), np.array(xy, np.float64), np.asarray(score, np.float64)
        if raw.ndim != 3 or raw.shape[2] != 2 or seen.shape != raw.shape[:2] or who.shape != raw.shape[:1]:
            raise InputError(
                f"ids, xy and score are {who.shape}, {raw.shape} and {seen.shape}, expected (N,), (N, K, 2) and (N, K)"
            )
        if len(self._ids) and raw.shape[1] != self._xy.shape[1]:
            raise InputError(f"this frame has {raw.shape[1]} joints, those before {self._xy.shape[1]}: reset() first")
        known = who[who >= 0]
        if len(np.unique(known)) != len(known):
            raise InputError(f"an id is twice in a frame: {sorted(known.tolist())}; duplicates have the id -1")
        if not np.isfinite(time) or time <= self._now:
            raise InputError(
                f"the frame's time is {time} s, expected more than {self._now} s: reset() before a new video"
            )
        return who, raw, np.clip(np.nan_to_num(seen) / self._min_score, 0, 1)


def _finite(xy: Double) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(xy).all(axis=2))


def _share(cutoff: Any, step: Any) -> Any:
    """How much of the new value a low-pass filter takes: cutoff in Hz, step in seconds."""
    rate = 2 * np.pi * cutoff * step
    return rate / (rate + 1)


def _size(xy: Double) -> Double:
    """`(N,)` px: the diagonal around the joints of each instance; 1 where these are in one place."""
    known = _finite(xy)[..., None]
    first, last = np.where(known, xy, np.inf).min(axis=1), np.where(known, xy, -np.inf).max(axis=1)
    side = np.where(known.any(axis=1), last - first, 0)
    return np.maximum(np.hypot(side[:, 0], side[:, 1]), 1)
