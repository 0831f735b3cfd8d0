"""A detector from its file to boxes."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..backends import GraphRequest
from ..errors import DetectorError, InputError, PosertError, naming
from ..pose.frame import check_frame
from .checks import FirstFrames
from .classes import names_of, wanted_class
from .detections import Detections
from .layouts import Candidates, recognise
from .nms import nms as suppress
from .picture import Fit, InputBuffer
from .session import described, open_graph, other_inputs, picture_input

log = logging.getLogger("posert")


class Detector:
    """Finds people, or objects of another class, in a frame.

    The file is recognised by its inputs, outputs and metadata; `description` says as what. One detector may be called
    from several threads: calls are served one after the other.

    Args:
        model: path or bytes of an ONNX file. Only a path finds weights that lie beside the file.
        backend: "auto", or one that runs ONNX: "openvino", "onnxruntime", "onnxruntime_cuda".
        layout: "auto", or one of `posert.runtime.detection.LAYOUTS.names()`.
        classes: the class to find, by its name or number; None for all.
        score: boxes with a lower score are ignored. 0.5 is what mmdeploy's pose tracker and transformers use. A lower
            one finds more people and more that are none, each of whom costs a run of the pose network.
        nms: of two boxes of a class whose IoU is above it, the less sure one is dropped. None: 0.7 for layouts that
            leave duplicates, as in mmdeploy's pose tracker and ultralytics, and off for the others.
        size: side or (height, width) of the input, px, where the file leaves it open; None: what the file recommends,
            else 640.
        threads: bound on CPU threads; None lets the backend choose.
        throughput: many frames per second instead of the shortest answer to one, for `stream`.
        color, placement, scale, mean, std: override the layout's, see `Picture`.

    Attributes:
        description: what was recognised, in one line.
        layout: the recognised `Layout`.
        picture: how a frame becomes the input, with what was overridden.
        backend: the backend's name.
        label: the number of the wanted class; None for all.
        names: of the classes by number, where the file has them.

    Raises:
        InputError: there is no such file, or a number is out of range.
        BackendError: nothing that is installed runs it, or the backend refused it.
        DetectorError: it is not recognised or has no such class; the message says what was seen and what to name.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes,
        *,
        backend: str = "auto",
        layout: str = "auto",
        classes: str | int | None = "person",
        score: float = 0.5,
        nms: float | None = None,
        size: int | tuple[int, int] | None = None,
        threads: int | None = None,
        throughput: bool = False,
        color: Literal["bgr", "rgb"] | None = None,
        placement: Literal["top_left", "center", "stretch"] | None = None,
        scale: float | None = None,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
    ) -> None:
        if not 0 <= score < 1 or not (nms is None or 0 < nms <= 1):
            raise InputError(f"score={score}, nms={nms}; expected a score from 0 to below 1 and an nms from 0 to 1")
        name = "the detector" if isinstance(model, bytes) else Path(model).name
        self._file = name if isinstance(model, bytes) else str(model)
        with naming(self._file):
            self.backend, self._session = open_graph(model, backend, threads, throughput)
            self._input = picture_input(self._session, size)
            self._others = other_inputs(self._session, self._input)
            graph = described(model, self._session, self._input, self._others)
            self.layout = recognise(graph, layout)
            overrides = {"color": color, "placement": placement, "scale": scale, "mean": mean, "std": std}
            given: dict[str, Any] = {field: value for field, value in overrides.items() if value is not None}
            self.picture = replace(self.layout.picture, **given)
            count = self.layout.classes(graph)
            self.names = names_of(graph.metadata)
            self.label = wanted_class(classes, self.names, count)
            self.score, self.nms = score, self.layout.nms if nms is None else nms
            self._check = FirstFrames(name, self._input.size)
            self._lock = threading.Lock()
            self._own = self.requests()[:1]
        self.description = f"{name}: {self._said(count, classes)}"
        log.info("%s", self.description)

    def __repr__(self) -> str:
        return f"Detector({self.description!r})"

    def _said(self, count: int | None, asked: str | int | None) -> str:
        """What was recognised."""
        height, width = self._input.size
        kind = self._input.dtype
        values = f"{self.picture}" if kind != "uint8" else f"{self.picture.color.upper()} pixels as they are"
        label = "all classes"
        if self.label is not None:
            name = self.names.get(self.label, asked if isinstance(asked, str) else "")
            label = f"class {self.label}{f' ({name})' if name else ''}{'' if count is None else f' of {count}'}"
        duplicates = "no NMS" if self.nms is None else f"NMS {self.nms:g}"
        return (
            f"{self.layout.name} ({self.layout.summary}) on {self.backend}; input {width}x{height} {kind}, {values}; "
            f"{label}, score above {self.score:g}, {duplicates}"
        )

    def __call__(self, frame: ArrayLike) -> Detections:
        """The boxes in a frame `(H, W, 3)` uint8 BGR.

        Raises:
            InputError: the frame cannot be used.
            DetectorError: the network gave NaN or infinity.
            BackendError: the library failed while it ran.
        """
        with self._lock:
            (request,) = self._own
            request.start(frame)
            return request.wait()

    def stream(self, frames: Iterable[NDArray[np.uint8]]) -> Iterator[tuple[NDArray[np.uint8], Detections]]:
        """Each frame with its boxes, in order: the same as from one call per frame, in less time.

        The next frames are prepared while the network runs, where the backend can do that; so a result comes after a
        few frames have been taken from `frames`. For a camera, whose results must not wait for later frames, call the
        detector itself.

        Raises: as a call, in the place of the frame, after the results of the frames before it.
        """
        idle = deque(self.requests())
        running: deque[tuple[NDArray[np.uint8], DetectorRequest]] = deque()
        failure: Exception | None = None

        def finish() -> tuple[NDArray[np.uint8], Detections]:
            """Wait for the oldest frame."""
            frame, request = running.popleft()
            found = request.wait()
            idle.append(request)
            return frame, found

        source = iter(frames)
        try:
            while True:
                try:
                    frame = next(source)
                except StopIteration:
                    break
                except Exception as error:
                    failure = error
                    break
                if not idle:
                    yield finish()
                try:
                    idle[0].start(frame)
                except PosertError as error:
                    failure = error
                    break
                running.append((frame, idle.popleft()))
            while running:
                yield finish()
            if failure is not None:
                raise failure
        finally:
            for _, request in running:
                request.drop()

    def requests(self) -> list[DetectorRequest]:
        """New requests, as many as keep the engine busy, for who wants to overlap frames in another way."""
        return [DetectorRequest(self, request) for request in self._session.requests()]

    def _new_buffer(self) -> InputBuffer:
        return InputBuffer(self.picture, self._input.size, self._input.dtype, self._input.channels_last)

    def _inputs(self, picture: NDArray[Any]) -> list[NDArray[Any]]:
        held = self._others | {self._input.index: picture}
        return [held[i] for i in range(len(held))]

    def _decode(self, outputs: tuple[NDArray[Any], ...], fit: Fit, frame: tuple[int, int]) -> Detections:
        """Boxes in a frame of (height, width) from the outputs for it."""
        named = {tensor.name: output for tensor, output in zip(self._session.outputs, outputs, strict=True)}
        for name, output in named.items():
            if output.dtype.kind == "f" and output.size and not np.isfinite(output.max()):  # which passes NaN on
                raise DetectorError(
                    f"the detector's output {name} holds NaN or infinity: its arithmetic overflows, as float16 does"
                )
        found = self.layout.decode(named, self._input.size, self.score)
        if not np.isfinite(found.boxes).all():
            raise DetectorError(f"the detector gives infinite boxes: is its layout {self.layout.name!r}? See layout=")
        self._check.add(found)
        return self._finish(found, fit, frame)

    def _finish(self, found: Candidates, fit: Fit, frame: tuple[int, int]) -> Detections:
        """Of the wanted class, without duplicates, in px of the frame and clipped to it."""
        boxes, score, label = found.boxes, found.score, found.label
        if self.label is not None:
            wanted = label == self.label
            boxes, score, label = boxes[wanted], score[wanted], label[wanted]
        kept = np.argsort(-score, kind="stable") if self.nms is None else suppress(boxes, score, label, self.nms)
        height, width = frame
        mapped = fit.to_frame(boxes[kept]).clip(0, np.array([width, height] * 2, np.float32))
        inside = (mapped[:, 2:] > mapped[:, :2]).all(axis=1)  # a box that lies in the padding is none
        return Detections(mapped[inside], score[kept][inside], label[kept][inside])


class DetectorRequest:
    """One of several frames that a detector can have under way at a time."""

    def __init__(self, detector: Detector, request: GraphRequest) -> None:
        self._detector, self._request = detector, request
        self._buffer = detector._new_buffer()
        self._fit, self._frame = Fit(0, 0, 0, 0, (1.0, 1.0)), (0, 0)

    def start(self, frame: ArrayLike) -> None:
        """Begin with a frame `(H, W, 3)` uint8 BGR, which is not kept. Raises as `Detector.__call__`."""
        image = check_frame(frame)
        self._frame = (image.shape[0], image.shape[1])
        self._fit = self._buffer.fill(image)
        with naming(self._detector._file):
            self._request.start(self._detector._inputs(self._buffer.array))

    def wait(self) -> Detections:
        """The boxes of the frame that was started. Raises as `Detector.__call__`."""
        with naming(self._detector._file):
            return self._detector._decode(self._request.wait(), self._fit, self._frame)

    def drop(self) -> None:
        """Wait for the end of a run whose result is not needed."""
        self._request.drop()
