"""Synthetic people as labelled frames, for every network: to calibrate on, and to compare graphs on."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ...runtime.accuracy.frames import Frames
from .data import cached
from .people import KEYPOINTS


def demo_frames(joints: int, split: str, count: int, note: str) -> Frames:
    """Synthetic people as frames, for a model of so many joints.

    Theirs are COCO's. Where the model has others, people stay labelled or not, and their joints mean nothing; so the
    joints are not named.
    """
    pixels, coco = cached(split, count)
    coco["categories"] = [{"id": 1, "name": "person"}]
    index = {record["file_name"]: i for i, record in enumerate(coco["images"])}
    if joints != len(KEYPOINTS):
        for a in coco["annotations"]:
            a["keypoints"] = [1.0 if a["num_keypoints"] else 0.0] * 3 * joints

    def load(record: dict[str, Any]) -> NDArray[np.uint8]:
        frame: NDArray[np.uint8] = pixels[index[record["file_name"]]]
        return frame

    def read(name: str) -> bytes:
        return cv2.imencode(".png", pixels[index[name]])[1].tobytes()

    return Frames(coco, load, read, "demo", note)
