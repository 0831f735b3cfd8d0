"""Trackers that `benchmarks.tracking` compares: each takes detections and joints, and gives ids and boxes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from posert.runtime.errors import BackendError
from posert.runtime.pose.keypoints import Keypoints
from posert.runtime.tracking import DROPPED, Tracker

Boxes = NDArray[np.floating]
Scores = NDArray[np.floating]
Ids = NDArray[np.int64]
_INSTALL = "pip install rtmlib trackers supervision"


class Follower(ABC):
    """A tracker at work on one clip."""

    @abstractmethod
    def detected(self, boxes: Boxes, score: Scores, size: tuple[int, int]) -> tuple[Boxes, Scores]:
        """The boxes `(N, 4)` xyxy to estimate in a frame with detections, and their scores `(N,)`.

        `size` is the frame's height and width, px.
        """

    @abstractmethod
    def between(self, size: tuple[int, int]) -> Boxes:
        """The boxes to estimate in a frame without a detection."""

    @abstractmethod
    def update(self, people: Keypoints, score: Scores | None) -> Ids:
        """The id `(N,)` of each row; DROPPED for one without an identity. `score` is None without a detection."""


class _Posert(Follower):
    def __init__(self, sigmas: tuple[float, ...]) -> None:
        self._tracker = Tracker(sigmas)

    def detected(self, boxes: Boxes, score: Scores, size: tuple[int, int]) -> tuple[Boxes, Scores]:
        return self._tracker.merge(boxes, score, size)[:2]

    def between(self, size: tuple[int, int]) -> Boxes:
        return self._tracker.predict(size)

    def update(self, people: Keypoints, score: Scores | None) -> Ids:
        return self._tracker.update(people.xy, people.score, people.boxes, score)


class _Alone(Follower):
    """No tracker: each row of each frame is somebody new."""

    def __init__(self, sigmas: tuple[float, ...]) -> None:
        self._next = 0

    def detected(self, boxes: Boxes, score: Scores, size: tuple[int, int]) -> tuple[Boxes, Scores]:
        return boxes, score

    def between(self, size: tuple[int, int]) -> Boxes:
        raise RuntimeError("without a tracker every frame has detected boxes")

    def update(self, people: Keypoints, score: Scores | None) -> Ids:
        self._next += len(people)
        return np.arange(self._next - len(people), self._next)


class _ByteTrack(_Alone):
    """`trackers`' ByteTrack on the detected boxes (Roboflow), with its defaults."""

    def __init__(self, sigmas: tuple[float, ...]) -> None:
        import supervision
        from trackers import ByteTrackTracker

        self._tracker, self._detections = ByteTrackTracker(), supervision.Detections

    def update(self, people: Keypoints, score: Scores | None) -> Ids:
        ids = np.full(len(people), DROPPED, np.int64)
        given = self._detections(people.boxes, confidence=np.asarray(score, np.float32))
        given.data["row"] = np.arange(len(people))
        seen = self._tracker.update(given if len(people) else self._detections.empty())
        if len(seen):
            ids[seen.data["row"]] = seen.tracker_id
        return ids


class _Rtmlib(Follower):
    """rtmlib's PoseTracker without its models: its association, and its boxes between detections."""

    def __init__(self, sigmas: tuple[float, ...]) -> None:
        from rtmlib.tools.solution.pose_tracker import PoseTracker, pose_to_bbox

        self._tracker, self._box = PoseTracker.__new__(PoseTracker), pose_to_bbox
        self._tracker.tracking_thr = 0.3  # its default
        self._tracker.reset()

    def detected(self, boxes: Boxes, score: Scores, size: tuple[int, int]) -> tuple[Boxes, Scores]:
        return boxes, score

    def between(self, size: tuple[int, int]) -> Boxes:
        return np.array(self._tracker.bboxes_last_frame, np.float64).reshape(-1, 4)

    def update(self, people: Keypoints, score: Scores | None) -> Ids:
        boxes = [self._box(xy) for xy in people.xy]
        ids = np.array([self._tracker.track_by_iou(box)[0] for box in boxes], np.int64)
        kept = np.flatnonzero(ids != DROPPED)
        self._tracker.track_ids_last_frame = ids[kept].tolist()
        self._tracker.bboxes_last_frame = [boxes[row] for row in kept]
        return ids


@dataclass(frozen=True)
class Kind:
    """How a tracker is opened, from the sigmas of the joints, and whether it gives boxes between detections."""

    open: Callable[[tuple[float, ...]], Follower]
    between: bool


TRACKERS = {
    "none": Kind(_Alone, False),
    "posert": Kind(_Posert, True),
    "rtmlib": Kind(_Rtmlib, True),
    "bytetrack": Kind(_ByteTrack, False),
}


def open_tracker(name: str, sigmas: tuple[float, ...]) -> Follower:
    """One of TRACKERS, for a clip. Raises BackendError: its package is not installed."""
    try:
        return TRACKERS[name].open(sigmas)
    except ImportError as error:
        raise BackendError(f"the tracker {name} needs {error.name}: {_INSTALL}") from error
