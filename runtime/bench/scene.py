"""The scene that is measured: a frame full of people in a file, the same for everyone.

`frame.jpg` (1920x1080) and its boxes were rendered once by `posert.export.demo.people`, twelve images of split "val".
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

FRAME = Path(__file__).with_name("frame.jpg")
_BOXES = FRAME.with_suffix(".json")

Image = NDArray[np.uint8]
Boxes = NDArray[np.float64]


def boxes_of(people: int) -> Boxes:
    """Boxes `(people, 4)` xyxy, px of the frame. The frame shows 25 people; beyond that their boxes repeat."""
    return np.resize(np.array(json.loads(_BOXES.read_text()), np.float64), (people, 4))


def crowd(people: int, height: int = 1080, width: int = 1920) -> tuple[Image, Boxes]:
    """The frame `(height, width, 3)` uint8 BGR, resized if need be, and boxes `(people, 4)` xyxy in it."""
    frame = np.asarray(cv2.imread(str(FRAME)), np.uint8)
    scale = np.array([width / frame.shape[1], height / frame.shape[0]])
    if frame.shape[:2] != (height, width):
        frame = np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    return frame, boxes_of(people) * np.tile(scale, 2)
