"""From the frames of a video to people who keep their ids: detector, pose network, tracker, smoothing."""

from __future__ import annotations

import itertools
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

_AHEAD = 2  # frames that are taken before their turn, at least, so that the detector runs beside the pose network


class PosePipeline:
    """People of each frame of one video, with ids that last.

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

    def reset(self) -> None:
        """Forget everybody, before another video."""
        if self.tracker is not None:
            self.tracker.reset()
        if self._smooth is not None:
            self._smooth.reset()
        self._frames = 0

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
        found = None
        if boxes is None and self.detector is not None and self._frames % self.detect_every == 0:
            found = self.detector(frame)
        return self._step(frame, boxes, found)

    def stream(self, frames: Iterable[tuple[ArrayLike, ArrayLike | None]]) -> Iterator[Keypoints]:
        """People of many frames, in order: the same as from one call per frame, in less time.

        Frames are taken ahead of their turn, so that detector and pose network run side by side.

        Args:
            frames: a frame and its boxes each, as above.

        Raises:
            as above, in the place of the frame, after the results of the frames before it. What was taken after it is
            dropped.
        """
        return self._one_by_one(frames) if self.tracker is not None else self._independent(frames)

    def _independent(self, frames: Iterable[tuple[ArrayLike, ArrayLike | None]]) -> Iterator[Keypoints]:
        """Without a tracker no frame depends on another."""
        scores: deque[NDArray[np.float32] | None] = deque()

        def boxed() -> Iterator[tuple[Any, Any]]:
            for job in self._detected(frames):
                if job.request is None:
                    scores.append(None)
                    yield job.frame, job.boxes
                else:
                    found = job.request.wait()
                    scores.append(found.score)
                    yield job.frame, found.boxes

        for people in self.pose.stream(boxed()):
            self._frames += 1
            yield replace(people, detection_score=scores.popleft())

    def _one_by_one(self, frames: Iterable[tuple[ArrayLike, ArrayLike | None]]) -> Iterator[Keypoints]:
        """With a tracker each frame's boxes depend on the joints of the frame before; only the detector runs ahead."""
        for job in self._detected(frames):
            yield self._step(job.frame, job.boxes, None if job.request is None else job.request.wait())

    def _detected(self, frames: Iterable[tuple[ArrayLike, ArrayLike | None]]) -> Iterator[_Job]:
        """The frames, each with the detector's run for it, which was started some frames ago.

        A run's request is used again after its frame was let go.
        """
        idle = deque(self.detector.requests()) if self.detector is not None else deque[DetectorRequest]()
        ahead: deque[_Job] = deque()
        failure: Exception | None = None
        depth = 0 if self.detector is None else max(_AHEAD, self.detect_every)
        source, number = iter(frames), itertools.count(self._frames)
        try:
            while True:
                while failure is None and len(ahead) <= depth and (idle or depth == 0):
                    try:
                        frame, boxes = next(source, (None, None))
                        if frame is None:
                            failure = StopIteration()
                            break
                        request = None
                        if next(number) % self.detect_every == 0 and boxes is None and idle:
                            idle[0].start(frame)
                            request = idle.popleft()
                    except Exception as error:
                        failure = error
                        break
                    ahead.append(_Job(frame, boxes, request))
                if not ahead:
                    if isinstance(failure, StopIteration):
                        return
                    assert failure is not None
                    raise failure
                job = ahead[0]
                yield job
                ahead.popleft()
                if job.request is not None:
                    idle.append(job.request)
        finally:
            for job in ahead:
                if job.request is not None:
                    job.request.drop()

    def _step(self, frame: Any, boxes: ArrayLike | None, found: Detections | None) -> Keypoints:
        """People of the next frame: in the caller's boxes, in those that the detector found, or in the tracker's."""
        number, self._frames = self._frames, self._frames + 1
        if self.tracker is None:
            people = self.pose(frame, boxes if found is None else found.boxes)
            return people if found is None else replace(people, detection_score=found.score)
        size = (int(frame.shape[0]), int(frame.shape[1]))
        score: NDArray[np.float32] | None = None
        if found is not None:
            boxes, score = self.tracker.merge(found.boxes, found.score, size)
        elif boxes is None and self.detector is not None:
            boxes = self.tracker.predict(size)
        people = self.pose(frame, boxes)
        if score is None and (boxes is None or self.detector is None):
            score = np.ones(len(people), np.float32)  # the caller is sure of these boxes
        people = self._identified(people, score)
        if self._smooth is None:
            return people
        assert people.ids is not None  # just given
        smooth = self._smooth(people.ids, people.xy, people.score, number / self._fps)
        return replace(people, xy=smooth, raw=people.xy)

    def _identified(self, people: Keypoints, score: NDArray[np.float32] | None) -> Keypoints:
        """With ids, without rows that are nobody's."""
        assert self.tracker is not None
        ids = self.tracker.update(people.xy, people.score, people.boxes, score)
        sure = self.tracker.detection_score(ids) if self.detector is not None else None
        return replace(people, ids=ids, detection_score=sure)[ids >= 0]


@dataclass(frozen=True)
class _Job:
    """A frame `(H, W, 3)` uint8 BGR, boxes that came with it, and the detector's run for it."""

    frame: Any
    boxes: ArrayLike | None
    request: DetectorRequest | None
