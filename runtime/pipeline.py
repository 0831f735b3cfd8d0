"""From the frames of a video to people who keep their ids: detector, pose network, tracker, smoothing."""

from __future__ import annotations

import itertools
import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .detection import Detections, Detector, DetectorRequest
from .errors import InputError
from .estimator import PoseEstimator
from .pose.keypoints import Keypoints
from .smoothing import OneEuro
from .tracking import Tracker

_log = logging.getLogger("posert")

_AHEAD = 2  # frames at least on which the detector runs before their turn
_AHEAD_BYTES = 1 << 28  # of those frames, unless it is a single one


class PosePipeline:
    """People of each frame of one video, with ids that last.

    A frame of another size than the one before begins a new scene: the detector runs on it, everybody gets a new id,
    and smoothing starts anew. A warning says so.

    Args:
        pose: an estimator, or the path of a bundle.
        detector: a detector, or the path of its ONNX file; None: boxes come with the frames.
        track: give people ids; or the `Tracker` that does.
        detect_every: run the detector on every so many frames. In the frames between, boxes come from the joints of the
            frame before. Needs a detector and a tracker.
        smooth: smooths the joints of each id while the video runs; `Keypoints.raw` has those of the network.
        fps: frames per second of the video, for `smooth`.

    Raises:
        InputError: options that do not go together.
        BundleError, BackendError, DetectorError: see `PoseEstimator` and `Detector`.
    """

    def __init__(
        self,
        pose: PoseEstimator | str | os.PathLike[str],
        detector: Detector | str | os.PathLike[str] | None = None,
        *,
        track: bool | Tracker = True,
        detect_every: int = 1,
        smooth: OneEuro | None = None,
        fps: float = 25.0,
    ) -> None:
        if detect_every < 1 or (detect_every > 1 and (detector is None or not track)):
            raise InputError(f"detect_every={detect_every}: expected 1 or more, and above 1 a detector and track=True")
        if smooth is not None and not track:
            raise InputError("smoothing follows people from frame to frame: it needs track=True")
        if not fps > 0:
            raise InputError(f"fps={fps}: expected the frames per second of the video, above 0")
        self.pose = pose if isinstance(pose, PoseEstimator) else PoseEstimator(pose)
        self.detector = detector if isinstance(detector, Detector | None) else Detector(detector)
        self.tracker = Tracker(self.pose.contract.sigmas) if track is True else (track or None)
        self.detect_every, self._smooth, self._fps = detect_every, smooth, fps
        self._frames = 0
        self._size: tuple[int, ...] = ()

    def reset(self) -> None:
        """Forget everybody, before another video."""
        if self.tracker is not None:
            self.tracker.reset()
        if self._smooth is not None:
            self._smooth.reset()
        self._frames, self._size = 0, ()

    def __call__(self, frame: ArrayLike, boxes: ArrayLike | None = None) -> Keypoints:
        """People of the video's next frame.

        Args:
            frame: `(H, W, 3)` uint8 BGR.
            boxes: `(N, 4)` xyxy in px of the frame, in place of the detector's; None: the detector's, or the whole
                frame where there is none.

        Raises:
            InputError: the frame or a box cannot be used.
            DetectorError: the detector gave NaN or infinity.
        """
        predicted = boxes is None and self._frames % self.detect_every > 0 and _size(frame) == self._size
        job = _Job(frame, boxes, predicted)
        if boxes is None and self.detector is not None and not job.predicted:
            job.found = self.detector(frame)
        return self._step(job)

    def stream(self, frames: Iterable[tuple[ArrayLike, ArrayLike | None]]) -> Iterator[Keypoints]:
        """People of many frames, in order: the same as from one call per frame, in less time.

        Frames are taken ahead of their turn, so that detector and pose network run side by side.

        Args:
            frames: a frame and its boxes each, as above.

        Raises:
            PosertError: what a call raises, in the place of its frame, after the results of the frames before it. What
                was taken after it is dropped.
        """
        return self._one_by_one(frames) if self.tracker is not None else self._independent(frames)

    def _independent(self, frames: Iterable[tuple[ArrayLike, ArrayLike | None]]) -> Iterator[Keypoints]:
        """Without a tracker no frame depends on another."""
        jobs: deque[_Job] = deque()
        for people in self.pose.stream(self._boxed(frames, jobs)):
            self._frames += 1
            found = jobs.popleft().found
            yield people if found is None else replace(people, detection_score=found.score)

    def _one_by_one(self, frames: Iterable[tuple[ArrayLike, ArrayLike | None]]) -> Iterator[Keypoints]:
        """With a tracker the boxes of a frame may depend on the joints of the frame before.

        Detected boxes do not: the pose network looks into them ahead of their turn. Only boxes that the tracker adds
        have to wait.
        """
        jobs: deque[_Job] = deque()
        ready: deque[Keypoints] = deque()
        ahead = self.pose.stream(self._boxed(frames, jobs))
        while True:
            if not jobs:
                ready.extend(itertools.islice(ahead, 1))
            if not jobs:
                return
            job = jobs.popleft()
            if not job.predicted and not ready:
                ready.append(next(ahead))
            yield self._step(job, None if job.predicted else ready.popleft())

    def _boxed(
        self, frames: Iterable[tuple[ArrayLike, ArrayLike | None]], jobs: deque[_Job]
    ) -> Iterator[tuple[Any, ArrayLike | None]]:
        """The frames whose boxes need no tracker, with these; `jobs` gets all that were taken."""
        for job in self._detected(frames):
            if job.request is not None:
                job.found = job.request.wait()
            jobs.append(job)
            if not job.predicted:
                yield job.frame, job.boxes if job.found is None else job.found.boxes

    def _detected(self, frames: Iterable[tuple[ArrayLike, ArrayLike | None]]) -> Iterator[_Job]:
        """The frames, each with the detector's run for it, which was started some frames ago.

        A run's request is used again when the next frame is asked for.
        """
        idle = deque(self.detector.requests()) if self.detector is not None else deque[DetectorRequest]()
        ahead: deque[_Job] = deque()
        failure: Exception | None = None
        depth = max(_AHEAD, self.detect_every) if idle else 0
        number, size = itertools.count(self._frames), self._size
        source = iter(frames)
        try:
            while True:
                while failure is None and len(ahead) <= depth and (idle or not depth) and _small(ahead):
                    try:
                        frame, boxes = next(source)
                        job = _Job(frame, boxes, predicted=False)
                        before, size = size, _size(frame)
                        if next(number) % self.detect_every and size == before:
                            job.predicted = boxes is None
                        elif boxes is None and idle:
                            idle[0].start(frame)
                            job.request = idle.popleft()
                    except Exception as error:  # also the end, in its place
                        failure = error
                        break
                    ahead.append(job)
                if not ahead:
                    break
                job = ahead[0]
                yield job
                ahead.popleft()
                if job.request is not None:
                    idle.append(job.request)
            if failure is not None and not isinstance(failure, StopIteration):
                raise failure
        finally:
            for job in ahead:
                if job.request is not None:
                    job.request.drop()

    def _step(self, job: _Job, people: Keypoints | None = None) -> Keypoints:
        """People of the next frame.

        Args:
            job: the frame.
            people: in the caller's or the detector's boxes; None: they have not been looked for.
        """
        number, self._frames = self._frames, self._frames + 1
        frame, found, tracker = job.frame, job.found, self.tracker
        if people is None and not job.predicted:
            people = self.pose(frame, job.boxes if found is None else found.boxes)
        if tracker is None:
            assert people is not None  # nothing is predicted without a tracker
            return people if found is None else replace(people, detection_score=found.score)
        self._begin_scene(number, _size(frame), tracker)
        size = self._size[0], self._size[1]
        if people is None:
            people, score = self.pose(frame, tracker.predict(size)), None
        elif found is None:
            score = np.ones(len(people), np.float32)  # the caller is sure of these boxes
        else:
            boxes, score, rows = tracker.merge(found.boxes, found.score, size)
            added = rows < 0
            people = people[rows[~added]]
            if added.any():
                people = _joined(people, self.pose(frame, boxes[added]))
        people = self._identified(people, score)
        if self._smooth is None:
            return people
        assert people.ids is not None  # just given
        smooth = self._smooth(people.ids, people.xy, people.score, number / self._fps)
        return replace(people, xy=smooth, raw=people.xy)

    def _begin_scene(self, number: int, size: tuple[int, ...], tracker: Tracker) -> None:
        """Where the size of the frames changes, joints of the frames before say nothing about where people are."""
        if self._size and size != self._size:
            (height, width), (old_height, old_width) = size, self._size
            _log.warning(
                "frame %d is %dx%d px, those before it %dx%d: people get new ids, and smoothing starts anew",
                *(number, width, height, old_width, old_height),
            )
            tracker.forget()
            if self._smooth is not None:
                self._smooth.reset()
        self._size = size

    def _identified(self, people: Keypoints, score: NDArray[np.float32] | None) -> Keypoints:
        """With ids, without rows that are nobody's."""
        assert self.tracker is not None
        ids = self.tracker.update(people.xy, people.score, people.boxes, score)
        sure = self.tracker.detection_score(ids) if self.detector is not None else None
        return replace(people, ids=ids, detection_score=sure)[ids >= 0]


@dataclass
class _Job:
    """A frame on its way.

    Attributes:
        frame: `(H, W, 3)` uint8 BGR.
        boxes: that came with it.
        predicted: whether its boxes come from the tracker alone.
        request: the detector's run for it.
        found: what that found.
    """

    frame: Any
    boxes: ArrayLike | None
    predicted: bool
    request: DetectorRequest | None = None
    found: Detections | None = None


def _small(jobs: Iterable[_Job]) -> bool:
    return sum(getattr(job.frame, "nbytes", 0) for job in jobs) <= _AHEAD_BYTES


def _size(frame: Any) -> tuple[int, ...]:
    """Height and width of a frame; anything else of what is none, which the estimator refuses."""
    return tuple(int(side) for side in np.shape(frame)[:2])


def _joined(first: Keypoints, second: Keypoints) -> Keypoints:
    """The people of both, as the pose network gives them."""
    xy, score, boxes = (
        np.concatenate([getattr(one, name) for one in (first, second)]) for name in ("xy", "score", "boxes")
    )
    return Keypoints(xy, score, boxes, first.names, subject=first.subject)
