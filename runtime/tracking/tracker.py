"""Ids that instances keep from frame to frame, and boxes for the frames without a detection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from ..metrics.assignment import best_pairs
from ..pose.preprocess import check_boxes
from .similarity import box_area, containment, iou, oks, paired_iou, unlike
from .tracks import Rows, Tracks, extent

Double = NDArray[np.float64]
Bool = NDArray[np.bool_]
Index = NDArray[np.intp]

DROPPED = -1
"""The id of a row that is no instance of its own: a duplicate, too few joints, or a box in which nobody was found."""

_LEAST = 0.3
"""Mean of OKS and IoU (without sigmas: IoU) from which an instance is where it was expected."""

_HELD = 0.4
"""IoU of a detected box with the expected one of an instance that stands behind somebody."""

_EMERGES = 0.7
"""Share of the smaller box in the larger one, of an instance of which much more or less is seen than a frame ago."""


class Tracker:
    """Follows instances through the frames of one video, by their joints and boxes; it never looks at pixels.

    For each frame: boxes from `predict`, or from `merge` where a detector ran; joints from the pose network for each of
    these boxes; then `update`, which gives each row its id. Similarity is OKS and IoU, motion has constant velocity.
    The rules are those of mmdeploy's pose_tracker, and so are the defaults but for `joint_score` and `track_iou`. What
    differs, and the measurements behind it: docs/tracking.md.

    A box here is what a detector gives: it surrounds the instance, in px of the frame. It is not padded: the crop rule
    of the pose network does that, by the contract's `padding`.

    Args:
        sigmas: K constants of the OKS, as a contract has them; without any, boxes alone are compared.
        joint_score: a joint is seen from this score on.
        min_joints: a row with fewer seen joints is no instance. None: half of the joints, rounded up.
        box_iou: in `merge`, boxes that overlap from this IoU on are one; so are rows, where there are no sigmas.
        duplicate_oks: rows that are alike from this OKS on are one instance found twice.
        track_iou: an instance that is not where it was expected is found from this IoU with that place or its last.
        new_score: a row begins a new instance from this detection score on; any row may continue an old one.
        max_missing: for so many frames an instance may be missing and keep its id.
    """

    def __init__(
        self,
        sigmas: Sequence[float] = (),
        *,
        joint_score: float = 0.3,
        min_joints: int | None = None,
        box_iou: float = 0.7,
        duplicate_oks: float = 0.5,
        track_iou: float = 0.2,
        new_score: float = 0.5,
        max_missing: int = 10,
    ) -> None:
        self._sigmas = np.array(sigmas, np.float64)
        self._joint_score, self._min_joints = joint_score, min_joints
        self._box_iou, self._duplicate_oks, self._track_iou = box_iou, duplicate_oks, track_iou
        self._new_score, self._max_missing = new_score, max_missing
        self.reset()

    def reset(self) -> None:
        """Forget all instances, before another video; ids begin at 0 again."""
        self._tracks = Tracks(len(self._sigmas), self._joint_score)

    def forget(self) -> None:
        """Forget all instances where another scene or frame size begins; ids go on, and none is used again."""
        self._tracks = Tracks(self._tracks.score.shape[1], self._joint_score, self._tracks.next_id)

    def predict(self, frame_size: tuple[int, int] | None = None) -> NDArray[np.float32]:
        """Where to look for each instance in the next frame without a detection; changes nothing.

        Args:
            frame_size: height and width of the frame, px: boxes are cut to it, and those outside it are left out.

        Returns:
            `(M, 4)` float32 xyxy, px of the frame, not padded. Missing instances have a box too.
        """
        return _inside(self._tracks.box, frame_size).astype(np.float32)

    def merge(
        self, boxes: ArrayLike, detection_score: ArrayLike, frame_size: tuple[int, int] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], Index]:
        """Where to look in a frame with a detection: the detected boxes, and those of instances that lie elsewhere.

        Args:
            boxes: `(N, 4)` xyxy, px of the frame.
            detection_score: `(N,)` 0..1.
            frame_size: as for `predict`.

        Returns:
            boxes `(N', 4)` float32, the detected ones first; their detection scores `(N',)` float32; and which of the
            detected boxes `(N',)` each is. An instance's own box has the score NaN and the row -1.

        Raises:
            InputError: a box or a score cannot be used.
        """
        found, score = check_boxes(boxes), np.asarray(detection_score, np.float64)
        if score.shape != (len(found),) or not np.isfinite(score).all():
            raise InputError(f"detection_score must be {len(found)} finite numbers, one per box, not {_seen(score)}")
        visible = self._tracks.missing == 0
        own = [_inside(self._tracks.box[which], frame_size) for which in (visible, ~visible)]
        every = np.concatenate([found, *own])
        scores = np.concatenate([score, np.full(len(every) - len(found), np.nan)])
        rank = np.repeat([2, 1, 0], [len(found), len(own[0]), len(own[1])])
        order = np.lexsort((-box_area(every), -np.nan_to_num(scores), -rank))
        keep = unlike(iou(every, every), order, self._box_iou)
        row = np.where(rank == 2, np.arange(len(every)), -1)
        return every[keep].astype(np.float32), scores[keep].astype(np.float32), row[keep]

    def update(
        self, keypoints: ArrayLike, score: ArrayLike, boxes: ArrayLike, detection_score: ArrayLike | None
    ) -> NDArray[np.int64]:
        """Take the joints that were found in the boxes of a frame, and say whose they are.

        The order of the rows does not matter. A frame without anybody is a call with no rows.

        Args:
            keypoints: `(N, K, 2)` px of the frame.
            score: `(N, K)` of the joints.
            boxes: `(N, 4)` xyxy px of the frame, in which they were found.
            detection_score: `(N,)` of the boxes; NaN for those that came from this tracker. Only a detected box can
                begin a new id. None: no detector ran, all boxes came from `predict`.

        Returns:
            `(N,)` int64 ids, from 0 on, never used again; DROPPED (-1) for a row that is a duplicate of another, and
            for one that neither continues an instance nor begins one.

        Raises:
            InputError: shapes that do not fit, values that are not finite, or boxes without a detection score where
                there is nobody to follow.
        """
        rows = self._checked(keypoints, score, boxes, detection_score)
        seen = rows.score >= self._joint_score
        rows = replace(rows, extent=extent(rows.xy, seen, rows.box))
        least = (seen.shape[1] + 1) // 2 if self._min_joints is None else self._min_joints
        real = np.flatnonzero(rows.detected | (seen.sum(axis=1) >= max(least, 1)))
        distinct = self._distinct(rows[real])
        real, again = real[distinct], real[~distinct]
        mine, theirs = self._associate(rows[real])
        mine = real[mine]
        tracks, ids = self._tracks, np.full(len(rows), DROPPED, np.int64)
        ids[mine] = tracks.id[theirs]
        tracks.follow(theirs, rows[mine])
        self._hold(rows[again[rows.detected[again]]])
        new = real[(ids[real] == DROPPED) & (rows.detection[real] >= self._new_score)]
        new = new[np.lexsort(rows.box[new].T[::-1])]  # numbered from left to right, in whatever order the rows are
        ids[new] = tracks.begin(rows[new])
        tracks.advance(self._max_missing)
        return ids

    def detection_score(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """The last detection score `(N,)` of ids that `update` has just returned; NaN for DROPPED."""
        order = np.argsort(self._tracks.id)
        found = np.full(len(ids), np.nan, np.float32)
        known = ids != DROPPED
        found[known] = self._tracks.detection[order][np.searchsorted(self._tracks.id[order], ids[known])]
        return found

    def _distinct(self, rows: Rows) -> Bool:
        """Which rows are no duplicate of one whose joints have higher scores and fit its box better."""
        fit = rows.score.sum(axis=1) * paired_iou(rows.box, rows.extent)
        order = np.lexsort((*rows.box.T[::-1], -fit))
        overlap = iou(rows.extent, rows.extent)
        if not len(self._sigmas):
            return unlike(overlap, order, self._box_iou)
        one = (rows.xy, rows.score, rows.box)
        return unlike(self._oks(overlap > 0, one, one), order, self._duplicate_oks)

    def _associate(self, rows: Rows) -> tuple[Index, Index]:
        """Pairs of a row and a track: where its joints and box are expected; then, of the others, by boxes alone."""
        tracks = self._tracks
        overlap = _overlap(rows, tracks.box, tracks.extent)
        alike = overlap
        if len(self._sigmas):
            expected = (tracks.xy, tracks.score, tracks.box)
            alike = (overlap + self._oks(overlap > 0, (rows.xy, rows.score, rows.box), expected)) / 2
        first, found = best_pairs(np.where(alike >= _LEAST, alike, 0))
        # Who turned round at the border or behind somebody is where it was, not where it was going.
        overlap = np.maximum(overlap, _overlap(rows, *tracks.last))
        overlap[first], overlap[:, found] = 0, 0
        second, back = best_pairs(np.where(overlap >= self._track_iou, overlap, 0))
        mine, theirs = np.concatenate([first, second]), np.concatenate([found, back])
        # Who comes out from behind something, or in from the border, has a box that grows by leaps around the old one.
        inside = containment(rows.box, tracks.box)
        inside[~rows.detected], inside[:, tracks.missing > 0] = 0, 0
        inside[mine], inside[:, theirs] = 0, 0
        third, out = best_pairs(np.where(inside >= _EMERGES, inside, 0))
        return np.concatenate([mine, third]), np.concatenate([theirs, out])

    def _hold(self, rows: Rows) -> None:
        """Keep instances visible whose box was detected, but in which somebody else's joints were found."""
        left = np.flatnonzero(self._tracks.missing >= 0)  # those that were followed are at -1
        overlap = iou(rows.box, self._tracks.box[left])
        found, held = best_pairs(np.where(overlap >= _HELD, overlap, 0))
        self._tracks.hold(left[held], rows.box[found])

    def _oks(self, which: Bool, a: tuple[Double, Double, Double], b: tuple[Double, Double, Double]) -> Double:
        alike = np.zeros(which.shape)
        i, j = np.nonzero(which)
        alike[i, j] = oks((i, j), a, b, self._sigmas)
        return alike

    def _checked(
        self, keypoints: ArrayLike, score: ArrayLike, boxes: ArrayLike, detection_score: ArrayLike | None
    ) -> Rows:
        box = check_boxes(boxes)
        xy, joint = np.asarray(keypoints, np.float64), np.asarray(score, np.float64)
        known = self._tracks.score.shape[1] or (xy.shape[1] if xy.ndim == 3 else 0)
        if not len(box) and xy.size == 0:
            xy, joint = np.zeros((0, known, 2)), np.zeros((0, known))
        if xy.shape != (len(box), known, 2) or joint.shape != (len(box), known):
            raise InputError(
                f"for {len(box)} boxes of instances with {known} joints keypoints must be {(len(box), known, 2)} and "
                f"score {(len(box), known)}, not {xy.shape} and {joint.shape}"
            )
        bad = np.asarray(~(np.isfinite(xy).all(axis=(1, 2)) & np.isfinite(joint).all(axis=1)))
        if bad.any():
            raise InputError(
                f"row {int(bad.argmax())} has joints or scores that are not finite ({int(bad.sum())} of {len(bad)} "
                "rows like it): leave such rows out"
            )
        if not self._tracks.score.shape[1]:
            self._tracks = Tracks(known, self._joint_score)
        if detection_score is None:
            if len(box) and not len(self._tracks):
                raise InputError(
                    f"there is nobody to follow yet, and {len(box)} boxes have no detection_score: give the detector's "
                    "scores, or 1 for each box if it gives none"
                )
            return Rows(xy, joint, box, box, np.full(len(box), np.nan))
        detected = np.asarray(detection_score, np.float64)
        if detected.shape != (len(box),) or np.isinf(detected).any():
            raise InputError(f"detection_score must be {len(box)} numbers, one per box, not {_seen(detected)}")
        return Rows(xy, joint, box, box, detected)


def _overlap(rows: Rows, boxes: Double, extents: Double) -> Double:
    """IoU `(N, M)` of rows and tracks: of boxes where a detector gave the row's, of extents where the tracker did."""
    return np.where(rows.detected[:, None], iou(rows.box, boxes), iou(rows.extent, extents))


def _inside(boxes: Double, frame_size: tuple[int, int] | None) -> Double:
    """Boxes cut to a frame, without those that lie outside it."""
    if frame_size is None:
        return boxes
    height, width = frame_size
    cut = np.clip(boxes, 0, np.array([width, height, width, height], np.float64))
    return cut[box_area(cut) > 0]


def _seen(values: Double) -> str:
    return str(values.shape) if np.isfinite(values).all() else f"{values.shape} with values that are not finite"
