"""From a frame and boxes to keypoints, on the fastest backend and precision of a bundle that passed its gate."""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .backends import Backend, Session, backends, installed_backends, load_backend, pip_line
from .bundle import Bundle
from .errors import BackendError, InputError
from .keypoints import Keypoints
from .registry import unknown_name

log = logging.getLogger("posert")

# People per run: bounds the memory of a crowd scene; larger batches are no faster per person.
MAX_BATCH = 32


@dataclass(frozen=True)
class Choice:
    """A backend and a precision, and why these."""

    backend: str
    precision: str
    reason: str


class PoseEstimator:
    """Keypoints of the people in a frame.

    One estimator may be called from several threads: calls are served one after the other.

    Args:
        bundle: path of a `.pose` file, or an opened `Bundle`.
        backend: "auto", or one of `posert.runtime.backends.backends()`.
        precision: "auto", or one that the bundle holds ("fp32", "fp16", "int8").
        threads: bound on CPU threads; None lets the backend choose.

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
    ) -> None:
        from . import preprocess  # brings OpenCV, which `import posert.runtime` should not cost

        self._preprocess = preprocess
        opened = bundle if isinstance(bundle, Bundle) else Bundle(bundle)
        try:
            self.choice = choose(opened, backend, precision)
            self.contract = opened.contract
            self.session = open_session(opened, self.choice.backend, self.choice.precision, threads)
        finally:
            if opened is not bundle:
                opened.close()
        log.info("%s: %s %s, %s", opened.name, self.choice.backend, self.choice.precision, self.choice.reason)
        self._crops = np.empty((0, self.contract.height, self.contract.width, 3), np.uint8)
        self._lock = threading.Lock()

    def __call__(self, frame: ArrayLike, boxes: ArrayLike | None = None) -> Keypoints:
        """Keypoints of N people.

        Args:
            frame: `(H, W, 3)` uint8 BGR, as OpenCV reads it.
            boxes: `(N, 4)` xyxy in px of the frame, from any detector; None means that the whole frame is one
                person. A box may reach over the frame's edge.

        Raises:
            InputError: the frame or a box cannot be used; the message says which and how to mend it.
        """
        image = check_frame(frame)
        rows = check_boxes(boxes, image.shape[1], image.shape[0])
        with self._lock:
            parts = [self._run(image, rows[i : i + MAX_BATCH]) for i in range(0, len(rows), MAX_BATCH)]
        if len(parts) == 1:
            xy, score = parts[0]
        else:
            k = len(self.contract.keypoints)
            xy = np.concatenate([np.empty((0, k, 2), np.float32), *(p[0] for p in parts)])
            score = np.concatenate([np.empty((0, k), np.float32), *(p[1] for p in parts)])
        return Keypoints(xy, score, rows, self.contract.keypoints)

    def _run(
        self, image: NDArray[np.uint8], boxes: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        from .decode import decode, to_frame

        c, p = self.contract, self._preprocess
        n = len(boxes)
        if n > len(self._crops):
            self._crops = np.empty((n, c.height, c.width, 3), np.uint8)
        center, extent = p.boxes_to_center_scale(boxes, c.width, c.height, c.padding)
        matrices = p.crop_matrices(center, extent, c.width, c.height, c.udp)
        crops = p.crop(image, matrices, c.width, c.height, out=self._crops[:n])
        xy, score = decode(self.session.infer(crops), c.decode, c.kernel)
        return to_frame(xy, center, extent, c.heatmap_width, c.heatmap_height, c.udp), score


def choose(bundle: Bundle, backend: str = "auto", precision: str = "auto") -> Choice:
    """Pick a backend and a precision for a bundle on this machine.

    `auto` takes the first installed backend and, on it, the fastest precision that passed the bundle's accuracy gate;
    where nothing was proven, full precision.

    Raises:
        BackendError: nothing fits; the message says what is missing and the pip line that brings it.
    """
    known = backends()
    if backend != "auto" and backend not in known:
        raise BackendError(unknown_name("backend", backend, ["auto", *known]))
    candidates = installed_backends() if backend == "auto" else {backend: load_backend(backend)}
    if not candidates:
        raise BackendError(f"no inference backend is installed. On a CPU the fastest is OpenVINO: {pip_line(known[0])}")
    for name, module in candidates.items():
        runnable = [p for p, artifact in module.PRECISIONS.items() if artifact in bundle.artifacts]
        if precision != "auto":
            if precision in runnable:
                return Choice(name, precision, "as asked")
            continue
        if runnable:
            return _proven(bundle, name, runnable, len(candidates))
    raise BackendError(
        f"{bundle.name} holds {', '.join(bundle.artifacts)}; {' and '.join(candidates)} can run "
        f"{_offers(candidates)}, so {precision if precision != 'auto' else 'nothing'} cannot run here. "
        f"Build it in: posert build --precision {precision if precision != 'auto' else 'fp32'}"
    )


def _proven(bundle: Bundle, backend: str, runnable: list[str], count: int) -> Choice:
    passed = {r["precision"] for r in bundle.accuracy.get("rows", ()) if r.get("verdict") == "passed"}
    why = f"the first of {count} installed backends" if count > 1 else "the backend that is installed"
    for precision in runnable:
        if precision in passed:
            return Choice(backend, precision, f"{why}, and the fastest precision there that passed the accuracy gate")
    widest = next((p for p in ("fp32", "fp16") if p in runnable), runnable[0])
    return Choice(backend, widest, f"{why}; no precision is proven in this bundle, so the widest")


def _offers(candidates: dict[str, Backend]) -> str:
    return "; ".join(f"{name}: {', '.join(module.PRECISIONS)}" for name, module in candidates.items())


def open_session(bundle: Bundle, backend: str, precision: str, threads: int | None = None) -> Session:
    """Compile one artifact of a bundle on one backend."""
    module = load_backend(backend)
    artifact = module.PRECISIONS.get(precision)
    if artifact is None or artifact not in bundle.artifacts:
        raise BackendError(
            f"{backend} runs {', '.join(module.PRECISIONS)} and {bundle.name} holds {', '.join(bundle.artifacts)}: "
            f"{precision!r} is not in both. Build it in: posert build --precision {precision}"
        )
    return module.Session(bundle.read(bundle.artifacts[artifact]), precision, threads)


def check_frame(frame: ArrayLike) -> NDArray[np.uint8]:
    """The frame as an array `(H, W, 3)` uint8, without a copy.

    Raises:
        InputError: anything else; the message holds the line that converts it.
    """
    image = np.asarray(frame)
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


def check_boxes(boxes: ArrayLike | None, width: int, height: int) -> NDArray[np.float32]:
    """Boxes as `(N, 4)` float32 xyxy; None is the whole frame, an empty list no people.

    Raises:
        InputError: a box is not finite, has no area, or lies outside the frame; the message names it.
    """
    if boxes is None:
        return np.array([[0, 0, width, height]], np.float32)
    try:
        rows = np.asarray(boxes, np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"boxes are not an array of numbers ({error}); expected (N, 4) xyxy") from error
    if rows.size == 0:
        return np.empty((0, 4), np.float32)
    if rows.ndim != 2 or rows.shape[1] != 4:
        raise InputError(f"boxes have shape {rows.shape}, expected (N, 4) xyxy in px; one box is [[x1, y1, x2, y2]]")
    x1, y1, x2, y2 = rows.T
    for broken, what in (
        (~np.isfinite(rows).all(1), "is not finite: drop it, or mend the detector"),
        ((x2 <= x1) | (y2 <= y1), "has no area: boxes are x1, y1, x2, y2 (not x, y, width, height); drop empty ones"),
        (
            (x2 <= 0) | (y2 <= 0) | (x1 >= width) | (y1 >= height),
            f"lies outside the {width}x{height} frame: drop it, or check that boxes and frame have the same scale",
        ),
    ):
        if broken.any():
            i = int(np.flatnonzero(broken)[0])
            raise InputError(f"box {i} of {len(rows)} {rows[i].tolist()} {what}")
    return rows
