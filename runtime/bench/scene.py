"""What is measured on: a frame of synthetic people, the same for everybody."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from ...export.demo.people import render

HEIGHT, WIDTH = 1080, 1920
_PICTURES, _COLUMNS = 12, 4  # twelve pictures hold 25 people

Image = NDArray[np.uint8]
Boxes = NDArray[np.float64]


def crowd(people: int, height: int = HEIGHT, width: int = WIDTH) -> tuple[Image, Boxes]:
    """A frame `(height, width, 3)` uint8 BGR full of synthetic people, and the boxes `(people, 4)` xyxy of the first.

    Up to 25 people the frame is the same, whatever `people` is; more are drawn smaller.
    """
    pictures: list[Image] = []
    found: list[tuple[int, list[float]]] = []
    while len(found) < people or len(pictures) < _PICTURES:
        image, annotations = render("val", len(pictures))
        found += [(len(pictures), a["bbox"]) for a in annotations]
        pictures.append(image)
    columns = max(_COLUMNS, math.ceil(math.sqrt(len(pictures) * _COLUMNS / 3)))
    rows = math.ceil(len(pictures) / columns)
    pictures += [np.zeros_like(pictures[0])] * (rows * columns - len(pictures))
    sheet = np.vstack([np.hstack(pictures[r * columns : (r + 1) * columns]) for r in range(rows)])
    frame = np.asarray(cv2.resize(sheet, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    h, w = pictures[0].shape[:2]
    corners = [(i % columns * w + x, i // columns * h + y, bw, bh) for i, (x, y, bw, bh) in found[:people]]
    boxes = np.array([[x, y, x + bw, y + bh] for x, y, bw, bh in corners], np.float64).reshape(-1, 4)
    return frame, boxes * np.tile([width / sheet.shape[1], height / sheet.shape[0]], 2)
