"""The frames of a shard, read ahead of their turn."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..media.frame_budget import FrameBudget
from ..media.image_file import MAX_PIXELS, UNREADABLE, declared_pixels, decode_image, read_bytes
from ..media.sources import Frame, next_frame, prefetch, too_large
from ..system.files import TemporaryFolder
from ..system.storage import Storage, is_url
from ..system.text import opencv_name
from .shard import Shard
from .sources import Kind
from .tar_file import TarImages

_TRUNCATED = 0.9  # of the frames a video declares: the count is slightly off in many intact files


class Reading:
    """The frames of one shard, in order; to be iterated once.

    Args:
        shard: what to read.
        threads: that decode images side by side. A video has one, which reads while the network runs.

    Attributes:
        keys: file names of the images; empty for a video.
        total: how many frames there are; None if it is not known.
        fps: of a video; 0 if it does not say.
        why: by key, why a frame could not be read.

    Raises InputError: the source cannot be opened.
    """

    def __init__(self, shard: Shard, threads: int = 1) -> None:
        self._shard, self._threads = shard, threads
        self.keys: tuple[str, ...] = ()
        self.total, self.fps = shard.frames, 0.0
        self.why: dict[str | int, str] = {}
        if shard.kind == "video":
            self._path = self._here(shard.source)
            self._capture = _open_video(self._path)
            fps, count = self._capture.get(cv2.CAP_PROP_FPS), _declared(self._capture)
            self.fps = fps if math.isfinite(fps) and fps > 0 else 0.0
            self.total = None if count is None else max(0, min(count, shard.stop or count) - shard.first)
        elif shard.kind == "tar":
            self._path = self._here(shard.source)
            self._tar = TarImages(self._path)
            self.keys = self._tar.names
            self.total = len(self.keys)
        else:
            self.keys = shard.names

    def __iter__(self) -> Iterator[Frame]:
        """Pairs of file name or frame number and frame `(H, W, 3)` uint8 BGR; None for one that cannot be read."""
        if self._shard.kind == "video":
            return prefetch(self._video())
        if self._shard.kind == "tar":
            return self._decoded((name, partial(_given, data)) for name, data in self._tar)
        if is_url(self._shard.source):
            storage = Storage(self._shard.source)
            return self._decoded((name, partial(_stored, storage, name)) for name in self.keys)
        folder = Path(self._shard.source)
        return self._decoded((name, partial(read_bytes, folder / name)) for name in self.keys)

    def shortfall(self, read: int) -> str | None:
        """What is wrong with the number of frames that were read; None if nothing is."""
        if self._shard.kind == "video" and self.total and read < _TRUNCATED * self.total:
            return f"only {read} of {self.total} frames could be read; the file may be truncated"
        if not read and self._shard.first == 0:
            return "no frame could be read"
        return None

    def _here(self, source: str) -> str:
        """The path of a source; what is stored elsewhere is copied here, and removed with this object."""
        if not is_url(source):
            return source
        self._copied = TemporaryFolder("source")
        folder, _, name = source.rpartition("/")
        Storage(folder).get(name, copy := Path(self._copied.name) / name)
        return str(copy)

    def _video(self) -> Iterator[Frame]:
        shard = self._shard
        try:
            # Frame by frame: OpenCV finds other frames by number, and in some files the wrong ones.
            if not all(_skip(self._capture) for _ in range(shard.first)):
                return
            number = shard.first
            while number != shard.stop and (frame := next_frame(self._capture)) is not None:
                yield number, frame
                number += 1
        finally:
            self._capture.release()

    def _decoded(self, files: Iterable[tuple[str, Callable[[], bytes]]]) -> Iterator[Frame]:
        """Images in order; several are read and decoded at a time."""
        waiting: deque[tuple[str, Future[_Decoded]]] = deque()
        budget = FrameBudget()
        with ThreadPoolExecutor(self._threads, "posert-read") as pool:
            try:
                for turn, (name, read) in enumerate(files):
                    waiting.append((name, pool.submit(_decode, read, turn, budget)))
                    if len(waiting) > 2 * self._threads:
                        yield self._told(*waiting.popleft(), budget)
                while waiting:
                    yield self._told(*waiting.popleft(), budget)
            finally:
                budget.close()
                for _, future in waiting:
                    future.cancel()

    def _told(self, name: str, future: Future[_Decoded], budget: FrameBudget) -> Frame:
        found = future.result()
        budget.release(found.size)
        if found.image is None:
            self.why[name] = found.why
        return name, found.image


@dataclass
class _Decoded:
    """An image, or why there is none; `size`: bytes of the budget that it took."""

    image: NDArray[np.uint8] | None
    why: str = ""
    size: int = 0


def count_frames(kind: Kind, path: str) -> int | None:
    """How many frames a video or a tar file declares; None if it cannot be told without reading all of it."""
    if is_url(path):  # that would copy it
        return None
    try:
        if kind == "video":
            capture = _open_video(path)
            count = _declared(capture)
            capture.release()
            return count
        return len(TarImages(path).names) if path.lower().endswith(".tar") else None
    except InputError:  # which its shard will tell
        return None


def _decode(read: Callable[[], bytes], turn: int, budget: FrameBudget) -> _Decoded:
    data, why, size = b"", UNREADABLE, 0
    try:
        data = read()
        size = 3 * min(declared_pixels(data), MAX_PIXELS)
    except OSError as error:
        why = error.strerror or str(error)
    finally:
        budget.admit(turn, size)  # in any case: the next ones wait for it
    return _Decoded(decode_image(data), why, size)


def _open_video(path: str) -> cv2.VideoCapture:
    try:
        if os.stat(path).st_size == 0:
            raise InputError("the file is empty")
    except OSError as error:
        raise InputError(error.strerror or str(error)) from error
    capture = cv2.VideoCapture(opencv_name(path))
    if not capture.isOpened():
        raise InputError("neither an image nor a video that OpenCV can read; the file may be truncated")
    if why := too_large(capture):
        capture.release()
        raise InputError(why)
    return capture


def _skip(capture: cv2.VideoCapture) -> bool:
    try:
        return capture.grab()
    except cv2.error:  # see `next_frame`
        return False


def _declared(capture: cv2.VideoCapture) -> int | None:
    count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return int(count) if math.isfinite(count) and count > 0 else None


def _given(data: bytes | OSError) -> bytes:
    if isinstance(data, OSError):
        raise data
    return data


def _stored(storage: Storage, name: str) -> bytes:
    try:
        return storage.read(name)
    except InputError as error:  # as of a file
        raise OSError(str(error)) from error
