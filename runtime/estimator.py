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
from .batching import CropBuffer, FrameJob, Streams
from .bundle.archive import Bundle
from .bundle.contract import Contract
from .cuda.frames import geometry, on_device
from .cuda.session import GpuSession
from .engines.engine_file import EngineFile
from .errors import BackendError, BundleError, CatalogError, InputError
from .pose.frame import check_frame
from .pose.heads import Outputs, check_outputs, head
from .pose.keypoints import Keypoints
from .pose.preprocess import check_boxes, crop_regions
from .selection import Selection, open_model, open_session, select
from .system.forks import OfOneProcess

if TYPE_CHECKING:
    from .cuda.pipeline import Pipeline

log = logging.getLogger("posert")

Float = NDArray[np.float32]


class PoseEstimator(OfOneProcess):
    """Keypoints of the people in a frame.

    One estimator may be called from several threads: calls are served one after the other. It belongs to the process
    that made it: a child made by os.fork() opens its own.

    Args:
        bundle: path of a `.pose` file or of an `.engine` file with its sidecar, or an opened `Bundle` or `EngineFile`;
            or `hf://OWNER/NAME[@REVISION][/FILE.pose]`, a bundle on the Hugging Face Hub.
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
        BackendError: nothing that is installed can run it, or the backend refused the graph; in a call: this process
            was forked from the one that made the estimator.
    """

    _name = _file = ""  # of the bundle; one around a session has none

    def __init__(
        self,
        bundle: str | os.PathLike[str] | Bundle | EngineFile,
        *,
        backend: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        flip_test: bool = False,
        throughput: bool = False,
    ) -> None:
        opened = bundle if isinstance(bundle, Bundle | EngineFile) else open_model(bundle)
        try:
            selected = select(opened, backend, precision)
            session = open_session(opened, selected.backend, selected.precision, threads, throughput, cached=True)
        finally:
            if opened is not bundle:
                opened.close()
        log.info("%s: %s %s, %s", opened.name, selected.backend, selected.precision, selected.reason)
        try:
            self._prepare(opened.contract, session, selected, flip_test)
        except CatalogError as error:
            raise BundleError(f"{opened.path}: {error}") from error
        self._name, self._file = opened.name, str(opened.path)
        if self._gpu is None:  # a pipeline on a GPU looks itself
            self._check_network(opened)

    def _check_network(self, bundle: Bundle | EngineFile) -> None:
        """Run a black crop: a network that gives other shapes than the contract says would put joints anywhere."""
        c = self.contract
        try:
            check_outputs(self.session.infer(np.zeros((1, c.height, c.width, 3), np.uint8)), c)
        except BackendError as error:
            raise BackendError(f"{bundle.path}: {error}") from error
        except InputError as error:
            name = f"{self.selection.backend} {self.selection.precision}"
            raise BundleError(f"{bundle.path}: {name} is not the network of its contract: {error}") from error

    @classmethod
    def from_session(
        cls, contract: Contract, session: Session, selected: Selection, flip_test: bool = False
    ) -> PoseEstimator:
        """An estimator around a session that is already open, such as the PyTorch reference in the accuracy gate."""
        estimator = cls.__new__(cls)
        estimator._prepare(contract, session, selected, flip_test)
        return estimator

    def __repr__(self) -> str:
        name = f"{self._name!r}, " if self._name else ""
        return f"PoseEstimator({name}{self.selection.backend} {self.selection.precision})"

    def _prepare(self, contract: Contract, session: Session, selected: Selection, flip_test: bool) -> None:
        super().__init__()
        self.contract, self.session, self.selection, self.flip_test = contract, session, selected, flip_test
        rule = head(contract.decode)
        self._gpu = session if isinstance(session, GpuSession) and rule.cuda is not None else None
        self._async = Streams(session, contract, flip_test) if isinstance(session, AsyncSession) else None
        if isinstance(session, GpuSession) and self._gpu is None:
            log.warning(
                "the decode rule %r has no CUDA kernel: the network runs on the GPU, crops and decoding on the CPU",
                rule.name,
            )
        self._buffer = CropBuffer(contract)
        self._pipeline: Pipeline | None = None
        self._idle: list[Pipeline] = []  # of streams that ended
        self._lock = threading.Lock()

    def __call__(self, frame: ArrayLike, boxes: ArrayLike | None = None) -> Keypoints:
        """Keypoints of N people.

        Args:
            frame: `(H, W, 3)` uint8 BGR, as OpenCV reads it. For backends that run on a GPU it may lie there: anything
                with `__cuda_array_interface__` or DLPack, which is read in place.
            boxes: `(N, 4)` xyxy in px of the frame, from any detector; None means that the whole frame is one
                person. A box may reach over the frame's edge.

        Raises:
            InputError: the frame or a box cannot be used; the message says which and how to fix it.
        """
        image, rows = self._checked(frame, boxes)
        xy, score = self.estimate_regions(image, *crop_regions(rows, self.contract))
        return Keypoints(xy, score, rows.astype(np.float32), self.contract.keypoints, subject=self.contract.subject[0])

    def stream(
        self, frames: Iterable[tuple[ArrayLike, ArrayLike | None]], *, people: int | None = None
    ) -> Iterator[Keypoints]:
        """Keypoints of many frames, in order: the same as from one call per frame, in less time.

        Several frames are in progress at a time where the backend can do that: the first result comes after a few
        frames have been taken from `frames`, and each frame is released before the next one is taken. Best with
        `PoseEstimator(..., throughput=True)`; for a camera, whose results must not wait for later frames, call the
        estimator itself.

        Args:
            frames: a frame and its boxes each, as above.
            people: in all frames together, where that is known: few are spread over all processors. Otherwise the
                network runs on four at a time, which is less work for each.

        Raises:
            InputError: a frame or a box cannot be used; in its place, after the results of the frames before it. What
                was taken after it is dropped.
        """
        boxes_of: deque[Float] = deque()

        def regions() -> Iterator[tuple[Any, Float, Float]]:
            for item in frames:
                try:
                    frame, boxes = item
                except (TypeError, ValueError) as error:
                    seen = type(item).__name__
                    raise InputError(f"stream takes a frame and its boxes each, (frame, boxes), not {seen}") from error
                image, rows = self._checked(frame, boxes)
                boxes_of.append(rows.astype(np.float32))
                yield image, *crop_regions(rows, self.contract)

        names, subject = self.contract.keypoints, self.contract.subject[0]
        found: Iterator[tuple[Float, Float]]
        if self._gpu is not None:
            found = self._stream_on_gpu(regions())
        elif self._async is not None:
            found = self._async.run(regions(), people)
        else:
            found = (self.estimate_regions(*region) for region in regions())
        try:
            for xy, score in found:
                yield Keypoints(xy, score, boxes_of.popleft(), names, subject=subject)
                self.check_process()
        except BackendError as error:
            raise self._named(error) from error

    def _stream_on_gpu(self, regions: Iterator[tuple[Any, Float, Float]]) -> Iterator[tuple[Float, Float]]:
        # A stream reserves its pipeline until it ends: others, and calls in between, have their own.
        with self._lock:
            pipeline = self._idle.pop() if self._idle else None
        pipeline = pipeline or self.open_pipeline(slots=2)
        assert pipeline is not None
        try:
            yield from pipeline.video(regions)
        finally:
            self._idle.append(pipeline)

    def estimate_regions(self, frame: NDArray[np.uint8], center: Float, extent: Float) -> tuple[Float, Float]:
        """Joints of N people whose crops are known, for data sets whose boxes follow another rule (MPII).

        Args:
            frame: `(H, W, 3)` uint8 BGR.
            center, extent: `(N, 2)` float32, px of the frame, see `preprocess.crop_regions`.

        Returns:
            xy `(N, K, 2)`, px of the frame, and score `(N, K)`, both float32.
        """
        self.check_process()  # before the lock, which another thread of the parent may have held
        if self._gpu is not None:
            with self._lock:
                self._pipeline = self._pipeline or self.open_pipeline()
                pipeline = self._pipeline
            assert pipeline is not None
            return pipeline(frame, center, extent)
        job = FrameJob(self.contract, frame, center, extent, self.flip_test)
        try:
            with self._lock:
                for batch in job.batches:
                    job.decode(batch, self.session.infer(job.crop(batch, self._buffer)))
        except BackendError as error:
            raise self._named(error) from error
        return job.xy, job.score

    def _named(self, error: BackendError) -> BackendError:
        """The error with the file of the network in front."""
        return error if not self._file or self._file in str(error) else BackendError(f"{self._file}: {error}")

    def outputs(self, frame: ArrayLike, boxes: ArrayLike | None = None) -> Outputs:
        """The network's raw outputs, `(N, ...)` float32 each, to compare and to debug. A flip test plays no part.

        Arguments and errors as above, but the frame lies in the host's memory, whatever the backend.
        """
        c = self.contract
        image, rows = self._checked(check_frame(frame), boxes)
        job = FrameJob(c, image, *crop_regions(rows, c), flip_test=False)
        found = tuple([np.empty((len(rows), *shape), np.float32) for shape in head(c.decode).shapes(c)])
        with self._lock:
            for batch in job.batches:
                seen = self.session.infer(job.crop(batch, self._buffer))
                check_outputs(seen, c)
                for whole, part in zip(found, seen, strict=True):
                    whole[batch] = part
        return found

    def heatmaps(self, frame: ArrayLike, boxes: ArrayLike | None = None) -> Float:
        """`outputs` of a network that has one: its heatmaps `(N, K, h, w)` float32.

        Raises:
            InputError: the network has several outputs; or as above.
        """
        found = self.outputs(frame, boxes)
        if len(found) != 1:
            raise InputError(f"this network has {len(found)} outputs, not one of heatmaps: use `outputs`")
        return found[0]

    def open_pipeline(self, slots: int = 1) -> Pipeline | None:
        """A new CUDA pipeline of this network, with its own buffers; None where crops or decoding are on the CPU.

        Args:
            slots: see `Pipeline`.
        """
        if self._gpu is None:
            return None
        from .cuda.pipeline import Pipeline

        return Pipeline(self._gpu.network, self.contract, self._gpu.device, flip_test=self.flip_test, slots=slots)

    def _checked(self, frame: Any, boxes: ArrayLike | None) -> tuple[Any, NDArray[np.float64]]:
        """The frame, as an array unless it is read on the GPU where it lies, and its boxes `(N, 4)` xyxy.

        Without boxes it is one person; an empty list is nobody.
        """
        self.check_process()
        if self._gpu is not None and on_device(frame):
            width, height, _ = geometry(tuple(frame.shape), None)
        else:
            frame = check_frame(frame)
            height, width = frame.shape[:2]
        if boxes is None:
            return frame, np.array([[0.0, 0.0, width, height]])
        rows = check_boxes(boxes)
        outside = (rows[:, 2:] <= 0) | (rows[:, :2] >= (width, height))
        if outside.any():
            i = int(outside.any(axis=1).argmax())
            raise InputError(
                f"box {i} of {len(rows)} {rows[i].tolist()} lies outside the {width}x{height} frame: drop it, or check "
                "that boxes and frame have the same scale"
            )
        return frame, rows
