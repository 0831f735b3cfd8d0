"""How frames are annotated, and the fingerprint by which a folder knows whether a run belongs to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2

from ..backends import load_backend
from ..errors import InputError
from ..system.files import sha256
from ..system.machine import versions

SAVITZKY_GOLAY, ONE_EURO = "savitzky-golay", "one-euro"


@dataclass(frozen=True)
class Settings:
    """Everything that changes results, apart from the frames.

    Attributes:
        bundle: path of the `.pose` file.
        backend, precision: that every worker runs; not "auto".
        detector: path of an ONNX file; None without.
        detector_layout, detector_score, detector_class: see `Detector`.
        boxes: path of a box file; in it `{stem}`, `{name}` and `{folder}` stand for the source's file name without its
            ending, its file name, and the folder it lies in. None without.
        box_score: boxes with a lower score are ignored.
        track: give the people of a video ids.
        detect_every, smooth: see `PosePipeline`; `smooth` is None, "one-euro" or "savitzky-golay". In videos alone.
        images: of a shard.
        frames: of a video in a shard; None: all of them.
    """

    bundle: str
    backend: str
    precision: str
    detector: str | None = None
    detector_layout: str = "auto"
    detector_score: float = 0.5
    detector_class: str | int = "person"
    boxes: str | None = None
    box_score: float = 0.3
    track: bool = False
    detect_every: int = 1
    smooth: str | None = None
    images: int = 500
    frames: int | None = None

    def __post_init__(self) -> None:
        if self.track and self.frames is not None:
            raise InputError(
                "ids must last from the first to the last frame of a video, so videos cannot be cut into spans: leave "
                "out --video-frames, or add --no-track"
            )

    def to_json(self) -> dict[str, Any]:
        """JSON values, for a worker."""
        return asdict(self)

    def boxes_of(self, source: str) -> Path | None:
        """The box file of a source; None without one."""
        if self.boxes is None:
            return None
        path, text = Path(source), self.boxes
        for field, value in (("stem", path.stem), ("name", path.name), ("folder", str(path.parent))):
            text = text.replace(f"{{{field}}}", value)
        return Path(text)

    def software(self) -> dict[str, Any]:
        """What this machine annotates with: a part of the fingerprint."""
        library = load_backend(self.backend).library_version()
        decoder = f"OpenCV {cv2.__version__}"
        return {"posert": versions().get("posert"), "backend": f"{self.backend} {library}", "decoder": decoder}

    def fingerprint(self, software: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What must be the same in every run on a folder, by name, in words.

        Args:
            software: of the workers; None: that of this machine.

        Raises InputError: a file cannot be read.
        """
        person = {"layout": self.detector_layout, "score": self.detector_score, "class": self.detector_class}
        boxes: Any = None
        if self.boxes is not None:
            boxes = {"file": self.boxes, "score": self.box_score}
            if self.boxes_of("x/y") == Path(self.boxes):  # one file for all
                boxes = {"sha256": digest(self.boxes), "score": self.box_score}
        return {
            "bundle": digest(self.bundle),
            "precision": self.precision,
            **(self.software() if software is None else software),
            "detector": {"sha256": digest(self.detector), **person} if self.detector else None,
            "boxes": boxes,
            "track": self.track,
            "detect every": self.detect_every,
            "smooth": self.smooth,
            "images of a shard": self.images,
            "video frames of a shard": self.frames,
        }


def digest(path: str) -> str:
    """The sha256 of a file. Raises InputError: it cannot be read."""
    try:
        return sha256(Path(path))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two fingerprints, in words."""
    return [
        f"{name}: {_short(old.get(name))} there, {_short(new.get(name))} now"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_short(one)}" for name, one in value.items())
    if isinstance(value, str) and len(value) == 64:
        return f"{value[:12]}…"
    return "none" if value is None else str(value)
