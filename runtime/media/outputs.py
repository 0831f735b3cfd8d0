"""Files that grow while frames come, and are whole whenever they stop coming: written beside, renamed at the end."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..system.files import atomic_write
from .sources import IMAGES, Source

_DEFAULT_FPS = 25.0  # of cameras that do not say


@dataclass(frozen=True)
class Plan:
    """Which files a run writes.

    Attributes:
        json: the keypoints.
        video: the drawn video, if there is one.
        images: the drawn images by the name of their source, if there are any.
    """

    json: Path
    video: Path | None
    images: dict[str, Path]

    @property
    def draws(self) -> bool:
        return bool(self.video or self.images)


def plan(source: Source, target: Path, inputs: Iterable[Path]) -> Plan:
    """What `--output` means for a source: a folder, or a file by its suffix.

    Raises:
        InputError: the suffix does not fit the source, the folder cannot be made, or a file that is read would be
            overwritten.
    """
    suffix = target.suffix.lower()
    single = (
        suffix == ".mp4" if source.video else suffix in IMAGES and len(source.keys) == 1 and source.path is not None
    )
    video, images = None, {}
    if suffix == ".json":
        folder, json_file = target.parent, target
    elif single and not target.is_dir():
        folder, json_file = target.parent, target.with_suffix(".json")
        video, images = (target, {}) if source.video else (None, {source.keys[0]: target})
    elif suffix and not target.is_dir() and (target.is_file() or suffix in (*IMAGES, ".mp4", ".avi", ".mov", ".mkv")):
        wanted = "a folder, .mp4 or .json" if source.video else "a folder or .json, or an image for one image"
        raise InputError(f"--output {target}: {source.name} cannot be written as {suffix}; expected {wanted}")
    else:
        folder, json_file = target, target / "keypoints.json"
        stem = source.path.stem if source.path else "camera"
        video = folder / f"{stem}.mp4" if source.video else None
        images = {} if source.video else {key: folder / _image_name(key) for key in source.keys}
    read = {p.resolve() for p in inputs} | {p.resolve() for p in source.files()}
    for path in (json_file, *([video] if video else []), *images.values()):
        if path.resolve() in read:
            raise InputError(f"--output {target}: would overwrite {path}, which is read; name another place")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {target}: cannot make the folder {folder} ({error})") from error
    return Plan(json_file, video, images)


def _image_name(key: str) -> str:
    return key if Path(key).suffix.lower() in IMAGES else f"{Path(key).stem}.png"


class Outputs:
    """The files of a plan while they are written.

    Args:
        where: the plan.
        head: fields that stand before the frames in the JSON.
        fps: of the drawn video; 0 where the source does not say.
    """

    def __init__(self, where: Plan, head: Mapping[str, Any], fps: float) -> None:
        self.plan = where
        self._records = _Records(where.json, head)
        self._video = _Video(where.video, fps) if where.video else None
        self._images: list[Path] = []

    def add(self, record: Mapping[str, Any], key: str | int, frame: NDArray[np.uint8] | None) -> None:
        """Append one frame's record, and the drawn frame `(H, W, 3)` BGR where there is one.

        Raises:
            InputError: OpenCV cannot write the image or video, or a frame of a video has another size than the first.
        """
        self._records.add(record)
        if frame is None:
            return
        if self._video is not None:
            self._video.add(frame)
        elif key in self.plan.images:
            _write_image(self.plan.images[str(key)], frame)
            self._images.append(self.plan.images[str(key)])

    def paths(self) -> list[str]:
        """The files written, the keypoints first; of several images their folder."""
        drawn = [self.plan.video] if self.plan.video else self._images
        if len(drawn) > 1:
            drawn = [drawn[0].parent]
        return [str(p) for p in (self.plan.json, *drawn)]

    def close(self, summary: Mapping[str, Any]) -> None:
        """Finish every file and give it its name.

        Raises:
            OSError: the keypoints cannot be written, now or at an `add` before; then nothing is left of the video
                either, which OpenCV writes on a full disk without a word.
        """
        try:
            self._records.close(summary)
        except OSError:
            self.discard()
            raise
        if self._video is not None:
            self._video.close()

    def discard(self) -> None:
        """Leave nothing behind, for a run that came to no frame."""
        if self._video is not None:
            self._video.discard()
        self._records.discard()


class _Records:
    """A JSON object whose list `frames` grows: the head's fields, `frames`, then `summary`."""

    def __init__(self, path: Path, head: Mapping[str, Any]) -> None:
        self._path, self._part = path, _beside(path)
        self._file = self._part.open("w", encoding="utf-8")
        self._failure: OSError | None = None
        self._write("{" + "".join(f"{_dump(name)}: {_dump(value)},\n" for name, value in head.items()))
        self._write('"frames": [')
        self._separator = "\n"

    def add(self, record: Mapping[str, Any]) -> None:
        # One call, so that an interrupt falls between records.
        self._write(self._separator + _dump(record))
        self._separator = ",\n"

    def close(self, summary: Mapping[str, Any]) -> None:
        self._write('\n],\n"summary": ' + _dump(summary) + "\n}\n")
        self._file.close()
        os.replace(self._part, self._path)

    def discard(self) -> None:
        with contextlib.suppress(OSError):  # what is left in the buffer
            self._file.close()
        self._part.unlink(missing_ok=True)

    def _write(self, text: str) -> None:
        if self._failure is not None:  # text is lost: with space made since, the file would have a hole
            raise self._failure
        try:
            self._file.write(text)
        except OSError as error:
            self._failure = error
            self.discard()
            raise


class _Video:
    """An MP4 video (MPEG-4 Part 2, which every build of OpenCV can write) of frames of one size."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._part = path, _beside(path)
        self._fps = fps or _DEFAULT_FPS
        self._writer: cv2.VideoWriter | None = None
        self._shape: tuple[int, ...] = ()

    def add(self, frame: NDArray[np.uint8]) -> None:
        if self._writer is None:
            self._shape = frame.shape
            size = (frame.shape[1], frame.shape[0])
            self._writer = cv2.VideoWriter(str(self._part), cv2.VideoWriter.fourcc(*"mp4v"), self._fps, size)
            if not self._writer.isOpened():
                raise InputError(f"{self._path}: OpenCV {cv2.__version__} cannot write an MP4 video of {size} here")
        if frame.shape != self._shape:  # OpenCV would drop it without a word
            raise InputError(f"{self._path}: a frame is {frame.shape}, the video began with {self._shape}")
        self._writer.write(frame)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()  # writes the index, without which nothing plays the file
            os.replace(self._part, self._path)

    def discard(self) -> None:
        if self._writer is not None:
            self._writer.release()
        self._part.unlink(missing_ok=True)


def _write_image(path: Path, image: NDArray[np.uint8]) -> None:
    try:
        good, data = cv2.imencode(path.suffix, image)
    except cv2.error as error:
        raise InputError(f"{path}: OpenCV cannot write {path.suffix} images ({error})") from error
    if not good:
        raise InputError(f"{path}: OpenCV could not encode the image as {path.suffix}")
    with atomic_write(path) as file:
        file.write(data.tobytes())


def _beside(path: Path) -> Path:
    """A hidden name in the same folder, with the same suffix: OpenCV chooses formats by it."""
    return path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")


def _dump(value: Any) -> str:
    return json.dumps(value, allow_nan=False)
