"""What is timed between frame and keypoints: each stage, inference only, and all of it end to end."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..backends import AsyncSession, Request, Session
from ..batching import CropBuffer, FrameJob
from ..cuda.pipeline import Pipeline
from ..estimator import PoseEstimator
from ..pose.heads import Outputs
from ..pose.preprocess import check_boxes, crop_regions

Image = NDArray[np.uint8]
Boxes = NDArray[np.float64]

END_TO_END, INFERENCE, DECODE_IMAGE = "end to end", "inference only", "decode image"
LEGACY_NAMES = {"whole": END_TO_END, "bare engine": INFERENCE}
"""Names of stages in results and in workers of posert 0.1.0-dev."""

_GPU_STEPS = {"upload": "upload", "crop": "crop", INFERENCE: "network", "decode": "decode", "download": "download"}
_PEOPLE, _FRAMES = 48, 4  # of one call in throughput mode, at least: they fill an engine several times


@dataclass(frozen=True)
class Stage:
    """A call that is timed.

    Attributes:
        name: "end to end" (frame to keypoints), "inference only" (the network on crops that are ready), or a step.
        people: per frame; 0 for what does not depend on them.
        frames: how many one call processes.
    """

    name: str
    people: int
    call: Callable[[], object]
    frames: int = 1


def latency(pose: PoseEstimator, image: Path, boxes: Boxes, people: list[int]) -> list[Stage]:
    """One frame at a time.

    Args:
        image: file of a frame; reading it is the stage "decode image", which "end to end" does not include.
        boxes: `(N, 4)` xyxy, px of the frame.
        people: numbers of people to time, each at most N.
    """
    frame = _read(image)
    stages = [Stage(DECODE_IMAGE, 0, partial(_read, image))]
    for n in people:
        on_gpu = _pipeline(pose, frame, boxes[:n])
        if on_gpu is not None:
            stages += [Stage(name, n, partial(on_gpu.step, step, frame)) for name, step in _GPU_STEPS.items()]
        else:
            job = _job(pose, frame, boxes[:n])
            crops = _crops(pose, job)
            outputs = [tuple(output.copy() for output in pose.session.infer(batch)) for batch in crops]
            stages += [
                Stage("crop", n, partial(_cut, pose, frame, boxes[:n], CropBuffer(pose.contract))),
                Stage(INFERENCE, n, partial(_each, pose.session.infer, crops)),
                Stage("decode", n, partial(_each, job.decode, job.batches, outputs)),
            ]
        stages.append(Stage(END_TO_END, n, partial(pose, frame, boxes[:n])))
    return stages


def throughput(pose: PoseEstimator, image: Path, boxes: Boxes, people: list[int]) -> list[Stage]:
    """Frame after frame, as of a video that is read faster than it is processed; arguments as for `latency`."""
    frame, stages = _read(image), []
    for n in people:
        frames = max(_FRAMES, math.ceil(_PEOPLE / n))
        on_gpu = _pipeline(pose, frame, boxes[:n])
        if on_gpu is not None:
            inference: Callable[[], object] = partial(_each, partial(on_gpu.step, "network"), [frame] * frames)
        else:
            inference = _inference_of_stream(pose, frame, boxes[:n], frames)
        end_to_end = partial(_stream, pose, frame, boxes[:n], frames)
        stages += [Stage(INFERENCE, n, inference, frames), Stage(END_TO_END, n, end_to_end, frames)]
    return stages


def _read(image: Path) -> Image:
    return np.asarray(cv2.imread(str(image)), np.uint8)


def _pipeline(pose: PoseEstimator, frame: Image, boxes: Boxes) -> Pipeline | None:
    """A GPU pipeline of its own: it remembers its last run, whose steps are timed. None where the CPU cuts crops."""
    on_gpu = pose.open_pipeline()
    if on_gpu is not None:
        on_gpu(frame, *crop_regions(check_boxes(boxes), pose.contract))
    return on_gpu


def _job(pose: PoseEstimator, frame: Image, boxes: Boxes) -> FrameJob:
    return FrameJob(pose.contract, frame, *crop_regions(check_boxes(boxes), pose.contract), pose.flip_test)


def _crops(pose: PoseEstimator, job: FrameJob) -> list[Image]:
    buffer = CropBuffer(pose.contract)
    return [job.crop(batch, buffer).copy() for batch in job.batches]


def _cut(pose: PoseEstimator, frame: Image, boxes: Boxes, buffer: CropBuffer) -> None:
    job = _job(pose, frame, boxes)
    for batch in job.batches:
        job.crop(batch, buffer)


def _each(call: Callable[..., object], *arguments: Sequence[object]) -> None:
    for some in zip(*arguments, strict=True):
        call(*some)


def _stream(pose: PoseEstimator, frame: Image, boxes: Boxes, frames: int) -> None:
    for _ in pose.stream((frame, boxes) for _ in range(frames)):
        pass


def _inference_of_stream(pose: PoseEstimator, frame: Image, boxes: Boxes, frames: int) -> Callable[[], object]:
    """The engine alone, with the same runs as the stream: as many at a time, with as many people in each."""
    batches = _crops(pose, _job(pose, frame, boxes))
    if not isinstance(pose.session, AsyncSession):
        return partial(_each, pose.session.infer, batches * frames)
    requests = pose.session.requests()
    sizes: list[int] = []
    recorder = _RecordingSession(pose.session, requests, sizes)
    _stream(PoseEstimator.from_session(pose.contract, recorder, pose.selection, pose.flip_test), frame, boxes, frames)
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


class _RecordingSession(AsyncSession):
    """A session that records how many crops each run has."""

    def __init__(self, session: Session, requests: list[Request], sizes: list[int]) -> None:
        self._session, self._requests, self._sizes = session, requests, sizes

    def infer(self, crops: Image) -> Outputs:
        return self._session.infer(crops)

    def requests(self) -> list[Request]:
        return [_RecordingRequest(request, self._sizes) for request in self._requests]


class _RecordingRequest:
    def __init__(self, request: Request, sizes: list[int]) -> None:
        self._sizes, self.wait, self.drop, self._start = sizes, request.wait, request.drop, request.start

    def start(self, crops: Image) -> None:
        self._sizes.append(len(crops))
        self._start(crops)
