"""The parts of the road from frame to keypoints that are timed: its stages, the bare engine, and the whole."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..backends import AsyncSession, Request, Session
from ..batching import CropBuffer, FrameJob
from ..estimator import PoseEstimator
from ..pose.heads import Outputs
from ..pose.preprocess import check_boxes, crop_regions

Image = NDArray[np.uint8]
Boxes = NDArray[np.float64]

MODES = ("latency", "throughput")
_STEPS = ("upload", "crop", "network", "decode", "download")  # on a GPU
_PEOPLE, _FRAMES = 48, 4  # at least, in one call in throughput mode: they fill an engine several times


@dataclass(frozen=True)
class Part:
    """One thing that is timed.

    Attributes:
        name: "whole" (frame to keypoints), "bare engine" (its network alone, on crops that are ready), or a stage.
        people: per frame; 0 for what does not look at them.
        call: what is timed.
        frames: that one call goes through.
    """

    name: str
    people: int
    call: Callable[[], object]
    frames: int = 1


def latency(pose: PoseEstimator, image: Path, boxes: Boxes, people: list[int]) -> list[Part]:
    """A frame at a time.

    Args:
        pose: what is measured.
        image: a frame's file, which "decode image" reads.
        boxes: `(N, 4)` xyxy in it.
        people: numbers of people that are timed, each at most N.
    """
    frame = _read(image)
    parts = [Part("decode image", 0, partial(_read, image))]
    for n in people:
        on_gpu = pose.open_pipeline()  # of its own: it remembers its last run, whose steps are timed
        if on_gpu is not None:
            on_gpu(frame, *crop_regions(check_boxes(boxes[:n]), pose.contract))
            steps = [("bare engine" if s == "network" else s, partial(on_gpu.step, s, frame)) for s in _STEPS]
            parts += [Part(name, n, step) for name, step in steps]
            parts.append(Part("whole", n, partial(pose, frame, boxes[:n])))
            continue
        batches: list[Image] = []
        cut = partial(_cut, pose, frame, boxes[:n], CropBuffer(pose.contract))
        cut(batches)
        seen = _job(pose, frame, boxes[:n])
        outputs = [tuple(output.copy() for output in pose.session.infer(crops)) for crops in batches]
        parts += [
            Part("crop", n, cut),
            Part("bare engine", n, partial(_infer, pose.session, batches)),
            Part("decode", n, partial(_joints, seen, outputs)),
            Part("whole", n, partial(pose, frame, boxes[:n])),
        ]
    return parts


def throughput(pose: PoseEstimator, image: Path, boxes: Boxes, people: list[int]) -> list[Part]:
    """Frame after frame, as of a video that is read faster than it is worked on; arguments as for `latency`."""
    frame, parts = _read(image), []
    for n in people:
        frames = max(_FRAMES, math.ceil(_PEOPLE / n))
        on_gpu = pose.open_pipeline()  # of its own: it remembers its last run, whose steps are timed
        if on_gpu is not None:
            on_gpu(frame, *crop_regions(check_boxes(boxes[:n]), pose.contract))
            bare: Callable[[], object] = partial(_repeat, partial(on_gpu.step, "network", frame), frames)
        else:
            bare = _bare_stream(pose, frame, boxes[:n], frames)
        parts += [
            Part("bare engine", n, bare, frames),
            Part("whole", n, partial(_stream, pose, frame, boxes[:n], frames), frames),
        ]
    return parts


def _read(image: Path) -> Image:
    return np.asarray(cv2.imread(str(image)), np.uint8)


def _job(pose: PoseEstimator, frame: Image, boxes: Boxes) -> FrameJob:
    return FrameJob(pose.contract, frame, *crop_regions(check_boxes(boxes), pose.contract), pose.flip_test)


def _cut(pose: PoseEstimator, frame: Image, boxes: Boxes, buffer: CropBuffer, keep: list[Image] | None = None) -> None:
    job = _job(pose, frame, boxes)
    for batch in job.batches:
        crops = job.crop(batch, buffer)
        if keep is not None:
            keep.append(crops.copy())


def _infer(session: Session, batches: list[Image]) -> None:
    for crops in batches:
        session.infer(crops)


def _joints(job: FrameJob, outputs: list[Outputs]) -> None:
    for batch, some in zip(job.batches, outputs, strict=True):
        job.decode(batch, some)


def _stream(pose: PoseEstimator, frame: Image, boxes: Boxes, frames: int) -> None:
    for _ in pose.stream((frame, boxes) for _ in range(frames)):
        pass


def _repeat(call: Callable[[], object], times: int) -> None:
    for _ in range(times):
        call()


def _bare_stream(pose: PoseEstimator, frame: Image, boxes: Boxes, frames: int) -> Callable[[], object]:
    """The engine alone, with as many runs under way as it likes and as many people in each as the stream gives it."""
    batches: list[Image] = []
    _cut(pose, frame, boxes, CropBuffer(pose.contract), batches)
    if not isinstance(pose.session, AsyncSession):
        return partial(_infer, pose.session, batches * frames)
    requests = pose.session.requests()
    sizes: list[int] = []
    recorder = _Recorder(pose.session, requests, sizes)
    _stream(PoseEstimator.from_session(pose.contract, recorder, pose.choice, pose.flip_test), frame, boxes, frames)
    crops = np.concatenate(batches * math.ceil(max(sizes) / sum(map(len, batches))))
    runs = [crops[:size] for size in sizes]

    def run() -> None:
        running: deque[Request] = deque()
        for i, batch in enumerate(runs):
            if len(running) == len(requests):
                running.popleft().wait()
            requests[i % len(requests)].start(batch)
            running.append(requests[i % len(requests)])
        for request in running:
            request.wait()

    return run


class _Recorder(AsyncSession):
    """A session whose requests note how many crops each run has."""

    def __init__(self, session: Session, requests: list[Request], sizes: list[int]) -> None:
        self._session, self._requests, self._sizes = session, requests, sizes

    def infer(self, crops: Image) -> Outputs:
        return self._session.infer(crops)

    def requests(self) -> list[Request]:
        return [_Noting(request, self._sizes) for request in self._requests]


class _Noting:
    def __init__(self, request: Request, sizes: list[int]) -> None:
        self._sizes, self.wait, self.drop, self._start = sizes, request.wait, request.drop, request.start

    def start(self, crops: Image) -> None:
        self._sizes.append(len(crops))
        self._start(crops)
