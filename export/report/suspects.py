"""Calibration images that look like one of the accuracy gate's, as pairs of pictures for the report."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2

from ...runtime.media.image_file import decode_image

_SHOWN = 24  # pairs; the names of all are in report.json
_PICTURE = 240  # px of the longer side


@dataclass(frozen=True)
class Pair:
    """A calibration image and the image of the gate that it looks like: names, and JPEG in base64 or "" where the
    image is not at hand, as with those of a calibration cache."""

    names: tuple[str, str]
    jpegs: tuple[str, str]


def pairs(
    suspects: Mapping[str, str], calibration: Callable[[str], bytes], held_out: Callable[[str], bytes]
) -> list[Pair]:
    """The first pairs of `suspects`, calibration image to image of the gate, which the two functions read by name."""
    return [
        Pair((ours, theirs), (_thumbnail(ours, calibration), _thumbnail(theirs, held_out)))
        for ours, theirs in list(suspects.items())[:_SHOWN]
    ]


def _thumbnail(name: str, read: Callable[[str], bytes]) -> str:
    try:
        image = decode_image(read(name))
    except (OSError, KeyError):
        return ""
    if image is None:
        return ""
    factor = min(1.0, _PICTURE / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return base64.b64encode(cv2.imencode(".jpg", small)[1].tobytes()).decode()
