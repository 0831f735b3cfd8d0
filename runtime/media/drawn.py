"""Write drawn frames: an MP4 video or images; every file is complete or absent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..system.files import TemporaryFolder, atomic_write
from ..system.text import opencv_name

_DEFAULT_FPS = 25.0  # for cameras that do not report a rate


class DrawnVideo:
    """An MP4 video (MPEG-4 Part 2, which every build of OpenCV can write) of frames of one size.

    It is written in a folder beside its place. Leaving the context renames it if it was checked and is `whole`;
    otherwise nothing remains. `source` is where the frames and their rate come from, for messages.
    """

    def __init__(self, path: Path, fps: float, source: str) -> None:
        self.path, self._fps, self._source = path, fps or _DEFAULT_FPS, source
        self._folder: TemporaryFolder | None = None
        self._shape: tuple[int, ...] = ()
        self._frames = 0
        self._writer: cv2.VideoWriter | None = None
        self.whole = False

    def add(self, key: str | int, frame: NDArray[np.uint8]) -> None:
        """Append a frame `(H, W, 3)` uint8 BGR.

        Raises InputError: OpenCV cannot write the video, or the frame has another size than the first.
        """
        if self._writer is None:
            try:
                self._folder = TemporaryFolder("video", self.path.parent)
            except OSError as error:
                raise InputError(f"cannot write {self.path}: {error.strerror}; choose another path") from error
            self._shape, size = frame.shape, (frame.shape[1], frame.shape[0])
            kind = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(opencv_name(self._part), kind, self._fps, size)
            if not self._writer.isOpened():
                raise InputError(
                    f"cannot write {self.path}: OpenCV {cv2.__version__} makes no MP4 video of {size[0]}x{size[1]} px "
                    f"and {self._fps:g} frames/s here. The rate is what {self._source} declares: if it is wrong, give "
                    "it another one, as with ffmpeg -i SOURCE -r 25 NEW"
                )
        if frame.shape != self._shape:  # OpenCV would drop it silently
            raise InputError(f"{self.path}: a frame is {frame.shape}, but the video began with {self._shape}")
        self._writer.write(frame)
        self._frames += 1

    @property
    def _part(self) -> Path:
        """Where it is written: OpenCV takes the format from the suffix."""
        assert self._folder is not None
        return Path(self._folder.name) / self.path.name

    def check(self) -> None:
        """End the video and read its index. Raises InputError: not every frame is in it."""
        if self._writer is None:
            return
        self._writer.release()  # writes the index, without which no player opens the file
        found = _frames_in(self._part)
        self.whole = found == self._frames
        if not self.whole:
            # OpenCV reports no failed write: this is where a full disk and a limit on the size are seen.
            size = self._part.stat().st_size / 1e6 if self._part.exists() else 0.0
            free = shutil.disk_usage(self.path.absolute().parent).free / 1e6
            raise InputError(
                f"cannot write {self.path}: {found or 'none'} of {self._frames} frames can be read from the {size:.1f} "
                f"MB that were written; {free:.0f} MB of the disk are free, and `ulimit -f` shows a limit on the size "
                "of files: free some space or choose another path"
            )

    def __enter__(self) -> DrawnVideo:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: Any) -> None:
        if self._writer is not None:
            self._writer.release()
            if error is None and self.whole:
                os.replace(self._part, self.path)
        if self._folder is not None:
            self._folder.remove()


class DrawnImages:
    """Drawn images, by the file name of their source; each is complete when it was added."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = paths
        self.written: list[Path] = []

    def add(self, key: str | int, frame: NDArray[np.uint8]) -> None:
        """Write an image. Raises InputError: it cannot be written, or OpenCV cannot encode it."""
        path = self._paths[str(key)]
        _write_image(path, frame)
        self.written.append(path)


def _frames_in(path: Path) -> int:
    """The number of frames that a video's index lists; 0 if it has none."""
    if not path.exists() or path.stat().st_size == 0:
        return 0
    capture = cv2.VideoCapture(opencv_name(path))
    count = capture.get(cv2.CAP_PROP_FRAME_COUNT) if capture.isOpened() else 0
    capture.release()
    return int(count)


def _write_image(path: Path, image: NDArray[np.uint8]) -> None:
    try:
        good, data = cv2.imencode(path.suffix, image)
    except cv2.error as error:
        raise InputError(f"{path}: OpenCV cannot write {path.suffix} images ({error})") from error
    if not good:
        raise InputError(f"{path}: OpenCV cannot encode this image as {path.suffix}")
    with atomic_write(path) as file:
        file.write(data.tobytes())
