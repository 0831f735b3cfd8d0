"""From a frame and boxes to keypoints, on the fastest backend and precision of a bundle that passed its gate."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .backends import Session
from .bundle import Bundle
from .choice import Choice, choose, open_session
from .contract import Contract
from .errors import InputError
from .flip import flip_index, merge
from .keypoints import Keypoints

if TYPE_CHECKING:
    from .cuda.pipeline import Pipeline

log = logging.getLogger("posert")

# People per run: bounds the memory of a crowd scene; larger batches are no faster per person.
MAX_BATCH = 32


class PoseEstimator:
    """Keypoints of the people in a frame.

    One estimator may be called from several threads: calls are served one after the other.

    Args:
        bundle: path of a `.pose` file, or an opened `Bundle`.
        backend: "auto", or one of `posert.runtime.backends.backends()`.
        precision: "auto", or one that the bundle holds ("fp32", "fp16", "int8").
        threads: bound on CPU threads; None lets the backend choose.
        flip_test: run each crop's mirror image too and average, as the published figures do: about 0.01 AP for twice
            the time.

    Raises:
        BundleError: the bundle cannot be used.
        BackendError: nothing that is installed can run it, or the backend refused the graph.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] | Bundle,
        *,
        backend: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        flip_test: bool = False,
    ) -> None:
        opened = bundle if isinstance(bundle, Bundle) else Bundle(bundle)
        try:
            choice = choose(opened, backend, precision)
            session = open_session(opened, choice.backend, choice.precision, threads)
        finally:
            if opened is not bundle:
                opened.close()
        log.info("%s: %s %s, %s", opened.name, choice.backend, choice.precision, choice.reason)
        self._prepare(opened.contract, session, choice, flip_test)

    @classmethod
    def from_session(
        cls, contract: Contract, session: Session, choice: Choice, flip_test: bool = False
    ) -> PoseEstimator:
        """An estimator around a session that is already open, such as the PyTorch reference in the accuracy gate."""
        estimator = cls.__new__(cls)
        estimator._prepare(contract, session, choice, flip_test)
        return estimator

    def _prepare(self, contract: Contract, session: Session, choice: Choice, flip_test: bool) -> None:
        from . import decode, preprocess  # these bring OpenCV, which `import posert.runtime` should not cost

        self._preprocess, self._decode = preprocess, decode
        self.contract, self.session, self.choice, self.flip_test = contract, session, choice, flip_test
        self._flip_index = flip_index(len(contract.keypoints), contract.flip_pairs)
        self._crops = np.empty((0, contract.height, contract.width, 3), np.uint8)
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
        c = self.contract
        center, extent = self._preprocess.boxes_to_center_scale(rows, c.width, c.height, c.padding)
        xy, score = self.regions(image, center, extent)
        return Keypoints(xy, score, rows.astype(np.float32), c.keypoints)

    def regions(
        self, frame: NDArray[np.uint8], center: NDArray[np.float32], extent: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Joints of N people whose crops are known, for those whose boxes follow another rule (MPII).

        Args:
            frame: `(H, W, 3)` uint8 BGR.
            center, extent: `(N, 2)` float32, px of the frame, see `posert.runtime.preprocess`.

        Returns:
            xy `(N, K, 2)`, px of the frame, and score `(N, K)`, both float32.
        """
        pipeline = self._on_gpu()
        if pipeline is not None:
            return pipeline(frame, center, extent)
        c, n, k = self.contract, len(center), len(self.contract.keypoints)
        xy, score = np.empty((n, k, 2), np.float32), np.empty((n, k), np.float32)
        matrices = self._preprocess.crop_matrices(center, extent, c.width, c.height, c.udp)
        with self._lock:
            for start in range(0, n, MAX_BATCH):
                part = slice(start, min(start + MAX_BATCH, n))
                peaks, score[part] = self._infer(frame, matrices[part])
                xy[part] = self._decode.to_frame(
                    peaks, center[part], extent[part], c.heatmap_width, c.heatmap_height, c.udp
                )
        return xy, score

    def heatmaps(self, frame: ArrayLike, boxes: ArrayLike | None = None) -> NDArray[np.float32]:
        """The network's raw output `(N, K, h, w)` float32, for those who compare or debug; frame and boxes as above."""
        image = check_frame(frame)
        rows, c = self._check_boxes(boxes, image.shape[1], image.shape[0]), self.contract
        center, extent = self._preprocess.boxes_to_center_scale(rows, c.width, c.height, c.padding)
        matrices = self._preprocess.crop_matrices(center, extent, c.width, c.height, c.udp)
        maps = np.empty((len(rows), len(c.keypoints), c.heatmap_height, c.heatmap_width), np.float32)
        with self._lock:
            for start in range(0, len(rows), MAX_BATCH):
                crops = self._preprocess.crop(image, matrices[start : start + MAX_BATCH], c.width, c.height)
                maps[start : start + MAX_BATCH] = self.session.infer(crops)
        return maps

    def _on_gpu(self) -> Pipeline | None:
        """The whole road on the GPU, where the session's network runs there."""
        # Both, because the PyTorch reference has a network too, of another kind.
        network, device = getattr(self.session, "network", None), getattr(self.session, "device", None)
        if network is None or device is None:
            return None
        with self._lock:
            if self._pipeline is None:
                from .cuda.pipeline import Pipeline

                self._pipeline = Pipeline(network, self.contract, device, flip_test=self.flip_test)
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

    def _infer(
        self, image: NDArray[np.uint8], matrices: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """One run: crops of all people, the network, peaks in px of the heatmap and their scores."""
        c, n = self.contract, len(matrices)
        batch = 2 * n if self.flip_test else n
        if batch > len(self._crops):
            self._crops = np.empty((batch, c.height, c.width, 3), np.uint8)
        crops = self._preprocess.crop(image, matrices, c.width, c.height, out=self._crops[:n])
        if not self.flip_test:
            return self._decode.decode(self.session.infer(crops), c.decode, c.kernel)
        self._crops[n:batch] = crops[:, :, ::-1]
        channels = 3 if c.decode == "udp_combined" else 1
        merged = merge(self.session.infer(self._crops[:batch]), self._flip_index, c.flip_shift, channels)
        return self._decode.decode(merged, c.decode, c.kernel)

    def _check_boxes(self, boxes: ArrayLike | None, width: int, height: int) -> NDArray[np.float64]:
        """Boxes as `(N, 4)` float64 xyxy; None is the whole frame, an empty list no people."""
        if boxes is None:
            return np.array([[0.0, 0.0, width, height]])
        rows = self._preprocess.check_boxes(boxes)
        x1, y1, x2, y2 = rows.T
        outside = (x2 <= 0) | (y2 <= 0) | (x1 >= width) | (y1 >= height)
        if outside.any():
            i = int(outside.argmax())
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
