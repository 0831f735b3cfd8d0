"""Frames from an image, a folder of images, a video or a camera."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import math
import queue
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..system.text import opencv_name
from .frame_budget import FrameBudget
from .image_file import read_pixels

IMAGES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

MAX_VIDEO_PIXELS = 1 << 26
"""Of a frame of a video: FFmpeg keeps several, which took 22 bytes a pixel on two processors. 8K has half as many."""
_MOTION_JPEG = (".mjpeg", ".mjpg")  # they begin as a JPEG does
_PATIENCE_S = 20.0  # the largest image takes some seconds
_CAMERA_PATIENCE_S = 2.0  # one that has stopped delivers nothing, ever

Frame = tuple["str | int", "NDArray[np.uint8] | None"]


@dataclass(frozen=True)
class Source:
    """An open source of frames.

    Attributes:
        name: for messages.
        path: the image, folder or video; None for a camera or a URL.
        video: whether frames are numbered from 0, instead of having file names.
        keys: file names of the images; empty for a video.
        total: the number of frames; None if unknown. The count a video declares can be slightly off.
        fps: frame rate of a video; 0 if unknown.
        pixels: of a frame of a video; 0 for images.
    """

    name: str
    path: Path | None
    video: bool
    keys: tuple[str, ...] = ()
    total: int | None = None
    fps: float = 0.0
    pixels: int = 0
    _capture: cv2.VideoCapture | None = None

    def files(self) -> list[Path]:
        """Paths of the files that are read."""
        if self.path is None:
            return []
        return [self.path / key for key in self.keys] if self.path.is_dir() else [self.path]

    def __iter__(self) -> Iterator[Frame]:
        """Pairs of file name or frame number and frame `(H, W, 3)` uint8 BGR; None for an image that cannot be read.

        Can be iterated once. A thread reads ahead. Images are converted as OpenCV does: rotated by their EXIF
        orientation, grey to BGR, 16 bits to 8, alpha dropped.
        """
        return prefetch(self._frames(), _PATIENCE_S if self.path else _CAMERA_PATIENCE_S)

    def _frames(self) -> Iterator[Frame]:
        if self._capture is None:
            for key, path in zip(self.keys, self.files(), strict=True):
                yield key, read_pixels(path)
            return
        try:
            for number in itertools.count():
                if (frame := next_frame(self._capture)) is None:
                    return
                yield number, frame
        finally:
            self._capture.release()


def open_source(spec: str) -> Source:
    """Open an image, a folder (the images in it, sorted by name), a video, a camera by its number, or a URL.

    Raises InputError: it does not exist, cannot be read, or is a folder without images.
    """
    path = Path(spec)
    if path.is_dir():
        keys = tuple(sorted(p.name for p in path.iterdir() if p.suffix.lower() in IMAGES and p.is_file()))
        if not keys:
            raise InputError(f"{path}: no image in this folder; searched for {' '.join(IMAGES)}, not in subfolders")
        return Source(str(path), path, video=False, keys=keys, total=len(keys))
    if path.is_file():
        if path.stat().st_size == 0:
            raise InputError(f"{path}: the file is empty")
        looks_like_image = cv2.haveImageReader(opencv_name(path)) and path.suffix.lower() not in _MOTION_JPEG
        if path.suffix.lower() in IMAGES or looks_like_image:
            return Source(path.name, path, video=False, keys=(path.name,), total=1)
        return _open_video(cv2.VideoCapture(opencv_name(path)), path.name, path)
    if spec.isdigit():
        return _open_video(cv2.VideoCapture(int(spec)), f"camera {spec}", None)
    if "://" in spec:
        return _open_video(cv2.VideoCapture(opencv_name(spec)), spec, None)
    raise InputError(
        f"{spec}: no such file or folder; expected an image, a folder of images, a video, a camera number or a URL"
    )


def too_large(capture: cv2.VideoCapture) -> str | None:
    """What to say of a video whose frames are larger than `MAX_VIDEO_PIXELS`; None of others."""
    width, height = _size(capture)
    if width * height <= MAX_VIDEO_PIXELS:
        return None
    return (
        f"frames of {width}x{height} px; expected at most {MAX_VIDEO_PIXELS // 10**6} million pixels a frame: scale "
        "it down, such as by ffmpeg -i VIDEO -vf scale=7680:-2 NEW"
    )


def next_frame(capture: cv2.VideoCapture) -> NDArray[np.uint8] | None:
    """The next frame of a video, `(H, W, 3)` uint8 BGR; None at its end, or where OpenCV cannot read on."""
    try:
        good, frame = capture.read()
    except cv2.error:  # its own reader of Motion JPEG, for one, raises this at a damaged frame
        return None
    return np.asarray(frame, np.uint8) if good else None


def _open_video(capture: cv2.VideoCapture, name: str, path: Path | None) -> Source:
    if not capture.isOpened():
        if path:
            raise InputError(f"{name}: neither an image nor a video that OpenCV can read; the file may be truncated")
        raise InputError(f"{name}: cannot open the camera or stream; does another program use it?")
    if why := too_large(capture):
        capture.release()
        raise InputError(f"{name}: {why}")
    count, fps = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
    total = int(count) if path and math.isfinite(count) and count > 0 else None
    fps = fps if math.isfinite(fps) and fps > 0 else 0.0
    return Source(name, path, True, total=total, fps=fps, pixels=math.prod(_size(capture)), _capture=capture)


def _size(capture: cv2.VideoCapture) -> tuple[int, int]:
    return int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))


def frame_bytes(frame: Frame) -> int:
    """The memory that a frame takes."""
    return 0 if frame[1] is None else frame[1].nbytes


def prefetch(frames: Iterator[Frame], patience: float = _PATIENCE_S, depth: int = 2) -> Iterator[Frame]:
    """Iterate in a thread, at most `depth` frames and `AHEAD_BYTES` ahead; `patience`: see `_Reader.close`."""
    reader = _Reader(frames, patience, depth)
    try:
        yield from reader
    finally:
        reader.close()


class _Reader:
    """A thread that reads ahead, until it is closed or the interpreter ends."""

    def __init__(self, frames: Iterator[Frame], patience: float, depth: int) -> None:
        self._frames, self._patience = frames, patience
        self._ready: queue.Queue[Frame | BaseException | None] = queue.Queue(depth)
        self._budget = FrameBudget()
        self._closed = threading.Event()
        # A daemon: a camera that delivers nothing must not keep the process from exiting.
        self._thread = threading.Thread(target=self._read, name="posert-read", daemon=True)
        _readers.add(self)
        self._thread.start()

    def __iter__(self) -> Iterator[Frame]:
        while (item := self._ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            self._budget.release(frame_bytes(item))
            yield item

    def close(self) -> None:
        """End the thread, and wait for the frame that it reads now, at most for `patience` seconds."""
        self._closed.set()
        self._budget.close()
        self._thread.join(self._patience)

    def _put(self, item: Frame | BaseException | None) -> bool:
        while not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                self._ready.put(item, timeout=0.1)
                return True
        return False

    def _read(self) -> None:
        try:
            expected = 0  # the next frame is expected to be as large as the one before
            for turn in itertools.count():
                self._budget.admit(turn, expected)
                if (item := next(self._frames, None)) is None:
                    break
                size = frame_bytes(item)
                self._budget.release(expected - size)
                expected = size
                if not self._put(item):
                    return
            self._put(None)
        except BaseException as error:  # raised again in the consumer's thread
            self._put(error)


_readers: weakref.WeakSet[_Reader] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Python ends daemon threads by force, and in the middle of OpenCV's C++ that aborts the process."""
    for reader in list(_readers):
        reader.close()
