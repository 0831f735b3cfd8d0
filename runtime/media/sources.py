"""Frames from an image, a folder of images, a video or a camera."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

IMAGES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

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
    """

    name: str
    path: Path | None
    video: bool
    keys: tuple[str, ...] = ()
    total: int | None = None
    fps: float = 0.0
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
        return prefetch(self._frames())

    def _frames(self) -> Iterator[Frame]:
        if self._capture is None:
            for key, path in zip(self.keys, self.files(), strict=True):
                yield key, read_pixels(path)
            return
        try:
            for number in itertools.count():
                good, frame = self._capture.read()
                if not good:
                    return
                yield number, np.asarray(frame, np.uint8)
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
        if path.suffix.lower() in IMAGES or cv2.haveImageReader(str(path)):
            return Source(path.name, path, video=False, keys=(path.name,), total=1)
        return _open_video(cv2.VideoCapture(str(path)), path.name, path)
    if spec.isdigit():
        return _open_video(cv2.VideoCapture(int(spec)), f"camera {spec}", None)
    if "://" in spec:
        return _open_video(cv2.VideoCapture(spec), spec, None)
    raise InputError(
        f"{spec}: no such file or folder; expected an image, a folder of images, a video, a camera number or a URL"
    )


def _open_video(capture: cv2.VideoCapture, name: str, path: Path | None) -> Source:
    if not capture.isOpened():
        if path:
            raise InputError(f"{name}: neither an image nor a video that OpenCV can read; the file may be truncated")
        raise InputError(f"{name}: cannot open the camera or stream; does another program use it?")
    count, fps = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
    total = int(count) if path and math.isfinite(count) and count > 0 else None
    return Source(name, path, True, total=total, fps=fps if math.isfinite(fps) and fps > 0 else 0.0, _capture=capture)


def read_pixels(path: str | os.PathLike[str]) -> NDArray[np.uint8] | None:
    """An image file as `(H, W, 3)` uint8 BGR, converted as by `Source`; None if it cannot be read."""
    # Python opens the file, because OpenCV on Windows takes only names in the system's code page.
    try:
        data = np.fromfile(path, np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except (OSError, cv2.error):
        return None
    return None if image is None else np.asarray(image, np.uint8)


def prefetch(frames: Iterator[Frame], depth: int = 2) -> Iterator[Frame]:
    """Iterate in a thread, at most `depth` frames ahead of the consumer."""
    ready: queue.Queue[Frame | BaseException | None] = queue.Queue(depth)
    closed = threading.Event()

    def put(item: Frame | BaseException | None) -> bool:
        while not closed.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return True
        return False

    def read() -> None:
        try:
            if all(map(put, frames)):
                put(None)
        except BaseException as error:  # raised again in the consumer's thread
            put(error)

    # A daemon: a camera that delivers nothing must not keep the process from exiting.
    thread = threading.Thread(target=read, name="posert-read", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        closed.set()
        thread.join(timeout=2.0)
