"""The files of a run, written while the frames come: the results, and the drawn frames; each is complete or absent."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..pose.keypoints import Keypoints
from ..results import FORMATS, Format, FrameResult, Subject, Writer, format_of, formats
from .drawn import DrawnImages, DrawnVideo
from .sources import IMAGES, Source

_VIDEOS = (".mp4", ".avi", ".mov", ".mkv")


@dataclass(frozen=True)
class Files:
    """The files a run writes: the results, the drawn video if any, drawn images by the file name of their source."""

    results: Path
    format: Format
    video: Path | None
    images: Mapping[str, Path]


def output_files(source: Source, target: Path, inputs: Iterable[Path]) -> Files:
    """Resolve `--output` for a source: a folder, or one file by its ending. Creates the folder.

    Raises:
        InputError: the ending does not fit the source, the folder cannot be created, or an input would be overwritten.
    """
    suffix, is_folder = target.suffix.lower(), target.is_dir()
    one_image = len(source.keys) == 1 and suffix in IMAGES
    form, video, images = format_of(target), None, {}
    if form is not None:
        folder, results = target.parent, target
    elif not is_folder and (suffix == ".mp4" if source.video else one_image):
        folder, results = target.parent, target.with_suffix(".json")
        if source.video:
            video = target
        else:
            images = {source.keys[0]: target}
    elif not is_folder and suffix and (target.is_file() or suffix in (*IMAGES, *_VIDEOS)):
        endings = ", ".join(one.ending for one in formats())
        more = f".mp4, {endings}" if source.video else f"{endings}, or an image file for one image"
        raise InputError(f"--output {target}: cannot write {source.name} as {suffix}; expected a folder, {more}")
    else:
        folder, results = target, target / "keypoints.json"
        if source.video:
            video = folder / f"{source.path.stem if source.path else 'camera'}.mp4"
        else:
            images = {key: folder / _image_name(key) for key in source.keys}
    read = {path.resolve() for path in (*inputs, *source.files())}
    for path in (results, *([video] if video else []), *images.values()):
        if any(path.resolve() in (one, *one.parents) for one in read):
            raise InputError(f"--output {target}: would overwrite the input {path}; choose another path")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {target}: cannot create the folder {folder} ({error.strerror})") from error
    return Files(results, form or FORMATS.load("json"), video, images)


def _image_name(key: str) -> str:
    return key if Path(key).suffix.lower() in IMAGES else f"{Path(key).stem}.png"


@contextlib.contextmanager
def open_outputs(
    files: Files, subject: Subject, fps: float, summary: Callable[[], Mapping[str, Any]]
) -> Iterator[Outputs]:
    """Open the outputs of a run; they are completed when the block ends, also by an exception or an interrupt.

    They are removed if it ends with an exception and the summary counts no `frames`.

    Args:
        files: what to write.
        subject: what the results are about.
        fps: frame rate of the drawn video; 0 if the source does not report one.
        summary: called at the end; what the results tell last.

    Raises:
        InputError: the results cannot be written, such as on a full disk; the video is removed then, too. Or the video
            cannot; the results are kept.
        PosertError: a library that the format needs is missing.
    """
    with contextlib.ExitStack() as stack:
        # The video is entered first: it gets its name after the results have theirs, and not if they fail.
        video = stack.enter_context(DrawnVideo(files.video, fps, subject.source)) if files.video else None
        writer = stack.enter_context(files.format.open(files.results, subject))
        outputs = Outputs(files, writer, video or DrawnImages(files.images))
        try:
            yield outputs
        finally:
            if summary()["frames"] and not outputs.broken:
                try:
                    if video is not None:
                        video.check()
                finally:
                    writer.finish(summary())
                    stack.close()


class Outputs:
    """The open files of a run; see `open_outputs`. `broken` tells whether a write of the results failed."""

    def __init__(self, files: Files, writer: Writer, drawn: DrawnVideo | DrawnImages) -> None:
        self.files, self.broken = files, False
        self._writer, self._drawn, self._frames = writer, drawn, 0

    @property
    def draws(self) -> bool:
        """Whether drawn frames are written."""
        return bool(self.files.video or self.files.images)

    def add(self, key: str | int, image: NDArray[np.uint8] | None, people: Keypoints | None, error: str = "") -> None:
        """Append a frame.

        Args:
            key: the image's file name, or the frame's number in a video.
            image: the drawn frame `(H, W, 3)` uint8 BGR; None if it could not be read.
            people: who is in it; None if it could not be used. A video keeps its length: the frame goes in undrawn.
            error: why there are no people.

        Raises:
            InputError: a file cannot be written, OpenCV cannot encode the frame, or a video's frame size changes.
        """
        height, width = (0, 0) if image is None else image.shape[:2]
        self.broken = True  # until the frame is whole in the file: half of one must not be completed
        self._writer.add(FrameResult(self._frames, key, people, width, height, error))
        self.broken = False
        self._frames += 1
        if self.draws and image is not None and (people is not None or self.files.video):
            self._drawn.add(key, image)

    def paths(self) -> list[str]:
        """The files written, the results first; several images are given by their folder."""
        if isinstance(self._drawn, DrawnVideo):
            drawn = [self._drawn.path] if self._drawn.whole else []
        else:
            drawn = self._drawn.written
        if len(drawn) > 1:
            drawn = [drawn[0].parent]
        return [str(path) for path in (self.files.results, *drawn)]
