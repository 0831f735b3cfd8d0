"""Write the keypoints and the drawn frames of a run while the frames come; every file is complete or absent."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..system.files import atomic_write
from .sources import IMAGES, Source

_VIDEOS = (".mp4", ".avi", ".mov", ".mkv")
_DEFAULT_FPS = 25.0  # for cameras that do not report a rate
_dump = partial(json.dumps, allow_nan=False)


@dataclass(frozen=True)
class Files:
    """The files a run writes: the keypoints, the drawn video if any, drawn images by the file name of their source."""

    json: Path
    video: Path | None
    images: Mapping[str, Path]


def output_files(source: Source, target: Path, inputs: Iterable[Path]) -> Files:
    """Resolve `--output` for a source: a folder, or one file by its suffix. Creates the folder.

    Raises:
        InputError: the suffix does not fit the source, the folder cannot be created, or an input would be overwritten.
    """
    suffix, is_folder = target.suffix.lower(), target.is_dir()
    one_image = len(source.keys) == 1 and suffix in IMAGES
    video, images = None, {}
    if suffix == ".json":
        folder, keypoints = target.parent, target
    elif not is_folder and (suffix == ".mp4" if source.video else one_image):
        folder, keypoints = target.parent, target.with_suffix(".json")
        if source.video:
            video = target
        else:
            images = {source.keys[0]: target}
    elif not is_folder and suffix and (target.is_file() or suffix in (*IMAGES, *_VIDEOS)):
        expected = "a folder, .mp4 or .json" if source.video else "a folder or .json, or an image file for one image"
        raise InputError(f"--output {target}: cannot write {source.name} as {suffix}; expected {expected}")
    else:
        folder, keypoints = target, target / "keypoints.json"
        if source.video:
            video = folder / f"{source.path.stem if source.path else 'camera'}.mp4"
        else:
            images = {key: folder / _image_name(key) for key in source.keys}
    read = {path.resolve() for path in (*inputs, *source.files())}
    for path in (keypoints, *([video] if video else []), *images.values()):
        if path.resolve() in read:
            raise InputError(f"--output {target}: would overwrite the input {path}; choose another path")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {target}: cannot create the folder {folder} ({error.strerror})") from error
    return Files(keypoints, video, images)


def _image_name(key: str) -> str:
    return key if Path(key).suffix.lower() in IMAGES else f"{Path(key).stem}.png"


@contextlib.contextmanager
def open_outputs(
    files: Files, head: Mapping[str, Any], fps: float, summary: Callable[[], Mapping[str, Any]]
) -> Iterator[Outputs]:
    """Open the outputs of a run; they are completed when the block ends, also by an exception or an interrupt.

    They are removed if it ends with an exception and the summary counts no `frames`.

    Args:
        files: what to write.
        head: fields of the JSON that precede the frames.
        fps: frame rate of the drawn video; 0 if the source does not report one.
        summary: called at the end; the last field of the JSON.

    Raises:
        InputError: the keypoints cannot be written, such as on a full disk. The video is removed then, because OpenCV
            does not report write errors.
    """
    with contextlib.ExitStack() as stack:
        video = stack.enter_context(_Video(files.video, fps)) if files.video else None
        outputs = Outputs(files, stack.enter_context(atomic_write(files.json)), video)
        fields = [f"{_dump(name)}: {_dump(value)},\n" for name, value in head.items()]
        outputs.write(f'{{{"".join(fields)}"frames": [')
        try:
            yield outputs
        finally:
            end = summary()
            if end["frames"] and not outputs.broken:
                outputs.write('\n],\n"summary": ' + _dump(end) + "\n}\n")
                stack.close()


class Outputs:
    """The open files of a run; see `open_outputs`. `broken` tells whether a write of the keypoints failed."""

    def __init__(self, files: Files, keypoints: BinaryIO, video: _Video | None) -> None:
        self.files, self._keypoints, self._video = files, keypoints, video
        self.broken, self._separator = False, "\n"
        self._images: list[Path] = []

    def add(self, record: Mapping[str, Any], key: str | int, frame: NDArray[np.uint8] | None) -> None:
        """Append one frame's record and, if there is one, its drawn frame `(H, W, 3)` uint8 BGR.

        Raises:
            InputError: a file cannot be written, OpenCV cannot encode the frame, or a video's frame size changes.
        """
        # One call, so that an interrupt falls between records.
        self.write(self._separator + _dump(record))
        self._separator = ",\n"
        if frame is None:
            return
        if self._video is not None:
            self._video.add(frame)
        elif key in self.files.images:
            path = self.files.images[str(key)]
            _write_image(path, frame)
            self._images.append(path)

    def write(self, text: str) -> None:
        """Append text to the keypoints file."""
        try:
            self._keypoints.write(text.encode())
        except InputError:  # the text is lost, so the file must not be completed
            self.broken = True
            raise

    def paths(self) -> list[str]:
        """The files written, the keypoints first; several images are given by their folder."""
        drawn = [self.files.video] if self.files.video else self._images
        if len(drawn) > 1:
            drawn = [drawn[0].parent]
        return [str(path) for path in (self.files.json, *drawn)]


class _Video:
    """An MP4 video (MPEG-4 Part 2, which every build of OpenCV can write) of frames of one size."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps or _DEFAULT_FPS
        # OpenCV takes the format from the suffix
        self._part = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
        self._shape: tuple[int, ...] = ()
        self._writer: cv2.VideoWriter | None = None

    def add(self, frame: NDArray[np.uint8]) -> None:
        if self._writer is None:
            self._shape, size = frame.shape, (frame.shape[1], frame.shape[0])
            self._writer = cv2.VideoWriter(str(self._part), cv2.VideoWriter.fourcc(*"mp4v"), self._fps, size)
            if not self._writer.isOpened():
                raise InputError(f"{self._path}: OpenCV {cv2.__version__} cannot write an MP4 video of {size} here")
        if frame.shape != self._shape:  # OpenCV would drop it silently
            raise InputError(f"{self._path}: a frame is {frame.shape}, but the video began with {self._shape}")
        self._writer.write(frame)

    def __enter__(self) -> _Video:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: Any) -> None:
        if self._writer is not None:
            self._writer.release()  # writes the index, without which no player opens the file
            if error is None:
                os.replace(self._part, self._path)
        self._part.unlink(missing_ok=True)


def _write_image(path: Path, image: NDArray[np.uint8]) -> None:
    try:
        good, data = cv2.imencode(path.suffix, image)
    except cv2.error as error:
        raise InputError(f"{path}: OpenCV cannot write {path.suffix} images ({error})") from error
    if not good:
        raise InputError(f"{path}: OpenCV cannot encode this image as {path.suffix}")
    with atomic_write(path) as file:
        file.write(data.tobytes())
