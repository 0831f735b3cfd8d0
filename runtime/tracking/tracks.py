"""What is known of the instances that are being followed: M of them, one row of each array."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .motion import Motion
from .similarity import box_area

Double = NDArray[np.float64]
Bool = NDArray[np.bool_]
Index = NDArray[np.intp]

_EDGE = 0.1
"""How far an instance reaches beyond its joints, in sizes of its box: joints in one line have an area too."""


@dataclass(frozen=True)
class Rows:
    """N instances as they were found in a frame, px of the frame.

    Attributes:
        xy: `(N, K, 2)` joints.
        score: `(N, K)` of the joints.
        box: `(N, 4)` xyxy, in which they were found.
        extent: `(N, 4)` xyxy, around the seen joints.
        detection: `(N,)` the detector's score of the box; NaN where the tracker gave the box.
    """

    xy: Double
    score: Double
    box: Double
    extent: Double
    detection: Double

    def __len__(self) -> int:
        return len(self.xy)

    def __getitem__(self, which: Index | Bool) -> Rows:
        return Rows(*(values[which] for values in vars(self).values()))

    @property
    def detected(self) -> Bool:
        """`(N,)` whether a detector gave the box."""
        return np.isfinite(self.detection)


def extent(xy: Double, seen: Bool, box: Double) -> Double:
    """`(N, 4)` xyxy around the seen joints of `(N, K, 2)` and a little more; without any, the boxes `(N, 4)`."""
    first = np.where(seen[..., None], xy, np.inf).min(axis=1, initial=np.inf)
    last = np.where(seen[..., None], xy, -np.inf).max(axis=1, initial=-np.inf)
    edge = _EDGE * size_of(box)[:, None]
    return np.where(np.asarray(seen.any(axis=1))[:, None], np.concatenate([first - edge, last + edge], axis=1), box)


def size_of(boxes: Double) -> Double:
    """`(N,)` px: the square root of the area of each box `(N, 4)`."""
    return np.sqrt(box_area(boxes))


class Tracks:
    """The instances and what the next frame is expected to show.

    Attributes:
        id: `(M,)` int64.
        missing: `(M,)` frames since each was seen; 0 for the visible ones.
        xy: `(M, K, 2)` predicted joints.
        score: `(M, K)` of the joints, when it was seen last.
        box: `(M, 4)` predicted, as a detector would give it.
        extent: `(M, 4)` predicted, around the seen joints.
        detection: `(M,)` the last detection score.
        last: the same `(2, M, 4)`, box and extent, where it was seen last.
        next_id: of the next instance.
    """

    def __init__(self, joints: int, joint_score: float, next_id: int = 0) -> None:
        self._joint_score = joint_score
        self.next_id = next_id
        self._motion = Motion(joints + 2)  # the corners of the box move like joints
        self.id = np.zeros(0, np.int64)
        self.missing = np.zeros(0, np.int64)
        self.score = np.zeros((0, joints))
        self.detection = np.zeros(0)
        self.box, self.extent = np.zeros((2, 0, 4))
        self.last = np.zeros((2, 0, 4))
        self._margin = np.zeros((0, 4))  # from the extent to the detector's box, in sizes of the extent

    def __len__(self) -> int:
        return len(self.id)

    @property
    def xy(self) -> Double:
        return self._motion.xy[:, :-2]

    def begin(self, rows: Rows) -> NDArray[np.int64]:
        """New instances, which a detector found; returns their ids."""
        ids = np.arange(self.next_id, self.next_id + len(rows))
        self.next_id += len(rows)
        self._motion.add(_with_corners(rows.xy, rows.box), size_of(rows.box))
        self.id = np.concatenate([self.id, ids])
        self.missing = np.concatenate([self.missing, np.full_like(ids, -1)])
        self.score = np.concatenate([self.score, rows.score])
        self.detection = np.concatenate([self.detection, rows.detection])
        self.box, self.extent = np.concatenate([self.box, rows.box]), np.concatenate([self.extent, rows.extent])
        self.last = np.concatenate([self.last, np.stack([rows.box, rows.extent])], axis=1)
        self._margin = np.concatenate([self._margin, _margin(rows)])
        return ids

    def follow(self, tracks: Index, rows: Rows) -> None:
        """What was found of some instances in this frame."""
        new = rows.detected
        self.detection[tracks[new]] = rows.detection[new]
        self._margin[tracks[new]] = _margin(rows[new])
        box = np.where(new[:, None], rows.box, self._around(tracks, rows.extent))
        points, size = _with_corners(rows.xy, box), size_of(box)
        score = np.concatenate([rows.score, np.ones((len(rows), 2))], axis=1)
        back = self.missing[tracks] > 0
        self._motion.correct(tracks[~back], points[~back], score[~back], size[~back])
        self._motion.restart(tracks[back], points[back], size[back])
        self.missing[tracks], self.score[tracks], self.last[:, tracks] = -1, rows.score, [box, rows.extent]

    def hold(self, tracks: Index, box: Double) -> None:
        """Instances that are there, in detected boxes `(N, 4)`, but whose joints are not seen in this frame."""
        size, unseen = size_of(box), np.zeros((len(tracks), self.score.shape[1]))
        points = _with_corners(self.xy[tracks], box)  # the joints are where they were expected
        self._motion.correct(tracks, points, np.concatenate([unseen, np.ones((len(tracks), 2))], axis=1), size)
        self.missing[tracks] = -1

    def advance(self, max_missing: int) -> None:
        """Go on to the next frame; who was not followed is missing, and forgotten after `max_missing` frames."""
        self.missing += 1
        kept = self.missing <= max_missing
        if not kept.all():
            self.id, self.missing, self.score = self.id[kept], self.missing[kept], self.score[kept]
            self.detection = self.detection[kept]
            self.box, self.last, self._margin = self.box[kept], self.last[:, kept], self._margin[kept]
            self._motion.keep(kept)
        missing = self.missing > 0
        self._motion.stiffen(missing, np.concatenate([self.score, np.zeros((len(self), 2))], axis=1))
        self._motion.advance(size_of(self.box))
        corners = self._motion.xy[:, -2:].reshape(-1, 4)
        self.box = np.concatenate([corners[:, :2], np.maximum(corners[:, 2:], corners[:, :2] + 1)], axis=1)
        self.extent = extent(self.xy, self.score >= self._joint_score, self.box)

    def _around(self, tracks: Index, where: Double) -> Double:
        """The boxes that a detector would give around the extents `(N, 4)` of some instances."""
        return where + self._margin[tracks] * np.tile(where[:, 2:] - where[:, :2], 2) * (-1, -1, 1, 1)


def _with_corners(xy: Double, box: Double) -> Double:
    """Joints `(N, K, 2)` and the corners of the boxes: `(N, K + 2, 2)`."""
    return np.concatenate([xy, box.reshape(-1, 2, 2)], axis=1)


def _margin(rows: Rows) -> Double:
    """How far each box reaches beyond the extent on each side, in widths and heights of that; below 0: not so far."""
    box, where = rows.box, rows.extent
    beyond = np.concatenate([where[:, :2] - box[:, :2], box[:, 2:] - where[:, 2:]], axis=1)
    return np.asarray(beyond / np.tile(where[:, 2:] - where[:, :2], 2))
