"""What a picture shows, in a few bytes: perceptual hashes of the frame and of the people in it.

A perceptual hash holds the signs of a picture's 255 lowest DCT coefficients about their median (Zauner, "Implementation
and benchmarking of perceptual image hash functions", 2010). Two frames of one fixed camera share their background, and
a frame's hash says little about the people; a hash of each person's box does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..runtime.media.image_file import decode_image

Hash = NDArray[np.uint8]
"""A perceptual hash `(32,)`."""
Boxes = NDArray[np.float64]
"""Boxes `(N, 4)` x, y, width, height, px of the frame or fractions of its sides."""

ALIKE = 40  # bits of 255, see overlap.py
_SIDE, _LOWEST = 64, 16
PHASH_BYTES = _LOWEST**2 // 8
_NEAR = 10  # frames: a third of a second of most videos
_ANY_VIDEO = ("", "img", "image", "im", "frame", "f", "dsc", "photo")  # names of images, not of videos
_VIDEO, _FRAME, _CAMERA = ("video_id", "vid_id", "video", "sequence"), ("frame_id", "frame"), ("camera_id", "camera")


@dataclass(frozen=True)
class Moment:
    """The frame `number` of a `video`."""

    video: str
    number: int

    def near(self, other: Moment | None) -> bool:
        """Whether the other one is at most ten frames away in the same video."""
        return other is not None and self.video == other.video and abs(self.number - other.number) <= _NEAR


@dataclass(frozen=True)
class Facts:
    """What annotations say about an image.

    Attributes:
        boxes: of its people, px of the frame; none: the image is compared as a whole.
        moment: when it was taken, as far as its record or its name tells.
        camera: that its record names, or "".
    """

    boxes: Boxes = field(default_factory=lambda: np.zeros((0, 4)))
    moment: Moment | None = None
    camera: str = ""


def image_facts(coco: Mapping[str, Any]) -> dict[str, Facts]:
    """The facts of each image of an annotation file by its `file_name`."""
    boxes: dict[Any, list[Sequence[float]]] = {}
    for a in coco["annotations"]:
        box = a.get("bbox", ())
        if not a.get("iscrowd") and len(box) == 4 and np.isfinite(box).all() and min(box[2:]) > 1:
            boxes.setdefault(a["image_id"], []).append(box)
    return {
        r["file_name"]: Facts(
            np.array(boxes.get(r["id"], ()), np.float64).reshape(-1, 4), moment_of(r), _first(r, _CAMERA)
        )
        for r in coco["images"]
    }


def moment_of(record: Mapping[str, Any]) -> Moment | None:
    """The video and the frame number of an image by the fields of its record, else by its name: the last number in
    the name, and everything before it. None: they tell no video; img07.png may be of any."""
    path = PurePosixPath(record["file_name"])
    found = re.search(r"(\d{1,15})\D*$", path.stem)
    video, number = _first(record, _VIDEO), _first(record, _FRAME)
    if not re.fullmatch(r"\d{1,15}", number):
        number = found[1] if found else ""
    if not number:
        return None
    if not video:
        before = path.stem[: found.start()] if found else path.stem
        if path.parent == PurePosixPath() and before.strip("-_. ").lower() in _ANY_VIDEO:
            return None
        video = str(path.parent / before)
    return Moment(video, int(number))


def _first(record: Mapping[str, Any], names: Sequence[str]) -> str:
    return next((str(record[name]) for name in names if isinstance(record.get(name), int | str)), "")


class Picture:
    """An encoded image, decoded once, whose regions are hashed; it has no hashes if it cannot be decoded."""

    def __init__(self, data: bytes) -> None:
        # Upright by its EXIF tag, as boxes are.
        self._grey = decode_image(data, cv2.IMREAD_GRAYSCALE)
        self._data = data

    def people(self, boxes: Boxes) -> list[tuple[Hash, NDArray[np.float64]]]:
        """The hash of each box in px of the frame, and the box as fractions of the frame's sides; without boxes those
        of the whole frame. Boxes that show a single colour are left out."""
        if self._grey is None:
            return []
        height, width = self._grey.shape
        if not len(boxes):
            frame = phash(self._data)
            return [] if frame is None else [(frame, np.array([0.0, 0.0, 1.0, 1.0]))]
        found = ((self._region(box), box / (width, height, width, height)) for box in boxes)
        return [(one, box) for one, box in found if one is not None]

    def region(self, fractions: NDArray[np.float64]) -> Hash | None:
        """The hash of a region that is given in fractions of the frame's sides."""
        if self._grey is None:
            return None
        height, width = self._grey.shape
        return self._region(fractions * (width, height, width, height))

    def _region(self, box: NDArray[np.float64]) -> Hash | None:
        grey = self._grey
        assert grey is not None
        x, y, w, h = box.tolist()
        left, top = max(0, int(x)), max(0, int(y))
        grey = grey[top : int(y + h) + 2, left : int(x + w) + 2]
        if not grey.size:
            return None
        x, y = x - left, y - top
        shrink = int(min(w, h) // _SIDE)
        if shrink > 1 and min(grey.shape) >= shrink:  # averages pixels, which the warp below would skip
            fx, fy = grey.shape[1] / (grey.shape[1] // shrink), grey.shape[0] / (grey.shape[0] // shrink)
            size = (grey.shape[1] // shrink, grey.shape[0] // shrink)
            grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA))
            x, w, y, h = x / fx, w / fx, y / fy, h / fy
        sx, sy = _SIDE / w, _SIDE / h
        matrix = np.array([[sx, 0, (0.5 - x) * sx - 0.5], [0, sy, (0.5 - y) * sy - 0.5]])
        small = cv2.warpAffine(grey, matrix, (_SIDE, _SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return _hash(np.asarray(small, np.uint8))


def phash(data: bytes) -> Hash | None:
    """The perceptual hash of an encoded image; None if it cannot be decoded, is one px wide or high, or shows a single
    colour."""
    # Half size: a JPEG is then decoded from a part of its coefficients, several times faster.
    grey = decode_image(data, cv2.IMREAD_REDUCED_GRAYSCALE_2)  # None of one px wide or high: it cannot be halved
    if grey is None or grey.min() == grey.max():
        return None
    return _hash(np.asarray(cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)))


def _hash(small: NDArray[np.uint8]) -> Hash | None:
    if small.min() == small.max():
        return None
    waves = cv2.dct(small.astype(np.float32))[:_LOWEST, :_LOWEST].reshape(-1)[1:]
    return np.packbits(waves > np.median(waves))


def bits_apart(hashes: NDArray[np.uint8], one: Hash) -> NDArray[np.int64]:
    """Bits of 255 in which each of the hashes `(N, 32)` differs from one."""
    return np.asarray(np.unpackbits(hashes ^ one, axis=1).sum(axis=1, dtype=np.int64))


def different(hashes: Sequence[Hash]) -> int:
    """How many of them are not alike."""
    kept: list[Hash] = []
    for one in hashes:
        if not len(kept) or bits_apart(stack(kept), one).min() > ALIKE:
            kept.append(one)
    return len(kept)


def stack(hashes: Sequence[Hash]) -> NDArray[np.uint8]:
    """As one array `(N, 32)`."""
    return np.array(hashes, np.uint8).reshape(-1, PHASH_BYTES)
