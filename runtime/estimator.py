"""From a frame and boxes to keypoints, on the fastest backend and precision of a bundle that passed its gate."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .backends import AsyncSession, Session
from .batching import CropBuffer, People, overlap
from .bundle.archive import Bundle
from .bundle.contract import Contract
from .cuda.session import GpuSession
from .errors import InputError
from .pose.flip import flip_index
from .pose.keypoints import Keypoints
from .pose.preprocess import center_scale, check_boxes
from .selection import Choice, choose, open_session

if TYPE_CHECKING:
    from .cuda.pipeline import Pipeline

log = logging.getLogger("posert")


class PoseEstimator:
    """Keypoints of the people in a frame.

    One estimator may be called from several threads: calls are served one after the other.

    Args:
        bundle: path of a `.pose` file, or an opened `Bundle`.
        backend: "auto", or one of `posert.runtime.backends.backends()`.
        precision: "auto", one that the bundle holds ("fp32", "fp16", "int8"), or "bf16": the fp32 graph on CPUs that
            have bfloat16 arithmetic.
        threads: bound on CPU threads; None lets the backend choose.
        flip_test: run each crop's mirror image too and average, as the published figures do: about 0.01 AP for twice
            the time.
        throughput: many frames per second instead of the shortest answer to one, for `stream`: the engine's cores work
            on several frames side by side, where the backend can do that.

    Raises:
        BundleError: the bundle cannot be used.
        BackendError: nothing that is installed can run it, or the backend refused the graph.
    """

    _name = ""  # of the bundle; one around a session has none

    def __init__(
        self,
        bundle: str | os.PathLike[str] | Bundle,
        *,
        backend: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        flip_test: bool = False,
        throughput: bool = False,
    ) -> None:
        opened = bundle if isinstance(bundle, Bundle) else Bundle(bundle)
        try:
            choice = choose(opened, backend, precision)
            session = open_session(opened, choice.backend, choice.precision, threads, throughput, cached=True)
        finally:
            if opened is not bundle:
                opened.close()
        log.info("%s: %s %s, %s", opened.name, choice.backend, choice.precision, choice.reason)
        self._prepare(opened.contract, session, choice, flip_test)
        self._name = opened.name

    @classmethod
    def from_session(
        cls, contract: Contract, session: Session, choice: Choice, flip_test: bool = False
    ) -> PoseEstimator:
        """An estimator around a session that is already open, such as the PyTorch reference in the accuracy gate."""
        estimator = cls.__new__(cls)
        estimator._prepare(contract, session, choice, flip_test)
        return estimator

    def __repr__(self) -> str:
        name = f"{self._name!r}, " if self._name else ""
        return f"PoseEstimator({name}{self.choice.backend} {self.choice.precision})"

    def _prepare(self, contract: Contract, session: Session, choice: Choice, flip_test: bool) -> None:
        self.contract, self.session, self.choice, self.flip_test = contract, session, choice, flip_test
        self._flip = flip_index(len(contract.keypoints), contract.flip_pairs) if flip_test else None
        self._buffer = CropBuffer(contract)
        self._pipeline: Pipeline | None = None
        self._lock = threading.Lock()

    def __call__(self, frame: ArrayLike, boxes: ArrayLike | None = None) -> Keypoints:
        """Keypoints of N people.

        Args:
            frame: `(H, W, 3)` uint8 BGR, as OpenCV reads it. For backends that run on a GPU it may lie there: anything
                with `__cuda_array_interface__` or DLPack, which is read in place.
            boxes: `(N, 4)` xyxy in px of the frame, from any detector; None means that the whole frame is one
                person. A box may reach over the frame's edge.

        Raises:
            InputError: the frame or a box cannot be used; the message says which and how to mend it.
        """
        height, width, image = self._size_of(frame)
        rows = self._check_boxes(boxes, width, height)
        xy, score = self.regions(image, *self._center_extent(rows))
        return Keypoints(xy, score, rows.astype(np.float32), self.contract.keypoints)

    def stream(self, frames: Iterable[tuple[ArrayLike, ArrayLike | None]]) -> Iterator[Keypoints]:
        """Keypoints of many frames, in order: the same as from one call per frame, in less time.

        Several frames are under way at a time where the backend can do that: the first result comes after a few frames
        have been taken from `frames`, and each frame is let go of as soon as the next one is taken. Best with
        `PoseEstimator(..., throughput=True)`; for a camera, whose answers must not wait for later frames, call the
        estimator itself.

        Args:
            frames: a frame and its boxes each, as above.

        Raises:
            InputError: a frame or a box cannot be used; in its place, after the results of the frames before it. What
                was taken behind it is dropped.
        """
        session = self.session
        if not isinstance(session, AsyncSession) or self._on_gpu() is not None:
            for frame, boxes in frames:
                yield self(frame, boxes)
            return
        boxes_of: deque[NDArray[np.float32]] = deque()

        def people() -> Iterator[People]:
            for frame, boxes in frames:
                image = check_frame(frame)
                rows = self._check_boxes(boxes, image.shape[1], image.shape[0])
                found = People(self.contract, image, *self._center_extent(rows), self._flip)
                boxes_of.append(rows.astype(np.float32))
                yield found

        for done in overlap(people(), session.requests(), self.contract):
            yield Keypoints(done.xy, done.score, boxes_of.popleft(), self.contract.keypoints)

    def regions(
        self, frame: NDArray[np.uint8], center: NDArray[np.float32], extent: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Joints of N people whose crops are known, for those whose boxes follow another rule (MPII).

        Args:
            frame: `(H, W, 3)` uint8 BGR.
            center, extent: `(N, 2)` float32, px of the frame, see `posert.runtime.pose.preprocess`.

        Returns:
            xy `(N, K, 2)`, px of the frame, and score `(N, K)`, both float32.
        """
        pipeline = self._on_gpu()
        if pipeline is not None:
            return pipeline(frame, center, extent)
        people = People(self.contract, frame, center, extent, self._flip)
        with self._lock:
            for part in people.parts:
                people.read(part, self.session.infer(people.cut(part, self._buffer)))
        return people.xy, people.score

    def heatmaps(self, frame: ArrayLike, boxes: ArrayLike | None = None) -> NDArray[np.float32]:
        """The network's raw output `(N, K, h, w)` float32, for those who compare or debug.

        Arguments and errors as above, but the frame lies in the host's memory, whatever the backend.
        """
        image, c = check_frame(frame), self.contract
        center, extent = self._center_extent(self._check_boxes(boxes, image.shape[1], image.shape[0]))
        people = People(c, image, center, extent, None)
        maps = np.empty((len(center), len(c.keypoints), c.heatmap_height, c.heatmap_width), np.float32)
        with self._lock:
            for part in people.parts:
                maps[part] = self.session.infer(people.cut(part, self._buffer))
        return maps

    def _on_gpu(self) -> Pipeline | None:
        """The whole road on the GPU, where the session's network runs there."""
        session = self.session
        if not isinstance(session, GpuSession):
            return None
        with self._lock:
            if self._pipeline is None:
                from .cuda.pipeline import Pipeline

                self._pipeline = Pipeline(session.network, self.contract, session.device, flip_test=self.flip_test)
            return self._pipeline

    def _size_of(self, frame: Any) -> tuple[int, int, Any]:
        """Height, width and the frame itself, as an array unless it lies on the GPU and is to be read there."""
        if self._on_gpu() is not None:
            from .cuda.frames import geometry, on_device

            if on_device(frame):
                width, height, _ = geometry(tuple(frame.shape), None)
                return height, width, frame
        image = check_frame(frame)
        return image.shape[0], image.shape[1], image

    def _center_extent(self, rows: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        c = self.contract
        return center_scale(rows, c.width, c.height, c.padding, c.enlarge)

    def _check_boxes(self, boxes: ArrayLike | None, width: int, height: int) -> NDArray[np.float64]:
        """Boxes as `(N, 4)` float64 xyxy; None is the whole frame, an empty list no people."""
        if boxes is None:
            return np.array([[0.0, 0.0, width, height]])
        rows = check_boxes(boxes)
        outside = (rows[:, 2:] <= 0) | (rows[:, :2] >= (width, height))
        if outside.any():
            i = int(outside.any(axis=1).argmax())
            raise InputError(
                f"box {i} of {len(rows)} {rows[i].tolist()} lies outside the {width}x{height} frame: drop it, or check "
                "that boxes and frame have the same scale"
            )
        return rows


def check_frame(frame: ArrayLike) -> NDArray[np.uint8]:
    """The frame as an array `(H, W, 3)` uint8, without a copy.

    Raises:
        InputError: anything else; the message holds the line that converts it.
    """
    if type(frame) is np.ndarray and frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3 and frame.size:
        return frame
    try:
        image = np.asarray(frame)
    except (TypeError, ValueError) as error:
        raise InputError(f"the frame is no array: {error}; expected uint8 (H, W, 3) BGR") from error
    if image.ndim == 0:
        raise InputError(
            f"frame is {type(frame).__name__}, expected an array uint8 (H, W, 3) BGR. A file is read by "
            "cv2.imread, which gives None where it cannot"
        )
    seen = f"frame is {image.dtype} {image.shape}, expected uint8 (H, W, 3) BGR"
    if image.size == 0:
        raise InputError(f"{seen}: it is empty. Did cv2.imread or VideoCapture.read fail?")
    if image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1):
        raise InputError(f"{seen}: convert grey with cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR)")
    if image.ndim == 3 and image.shape[2] == 4:
        raise InputError(f"{seen}: drop the alpha channel with cv2.cvtColor(frame, cv2.COLOR_BGRA2BGR)")
    if image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"{seen}. One frame at a time, channels last")
    if image.dtype != np.uint8:
        raise InputError(f"{seen}: convert with (frame * 255).clip(0, 255).astype('uint8') if it is 0..1")
    return image
