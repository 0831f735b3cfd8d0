"""Pictures of a run, in bounded memory: frames that are spread evenly, and frames that failed."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..bundle.contract import Contract
from ..pose.draw import draw
from ..pose.keypoints import Keypoints

SPREAD = 60
FAILED = 20
SIDE = 720  # px of the longer side, at most
_BYTES = 100_000  # of a picture; it gets a lower quality above


@dataclass(frozen=True)
class Picture:
    """A frame on the page: its position in the source, what is said below it, and a JPEG."""

    index: int
    key: str | int
    people: int
    score: float | None
    failed: bool
    error: str
    jpeg: bytes

    @property
    def source(self) -> str:
        """The picture as the `src` of an HTML image."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode()}"


class Pictures:
    """At most `SPREAD` frames, spread evenly over those so far, and the first `FAILED` that failed.

    Every `step`-th frame is kept; when there are too many, every second one is dropped and `step` doubles.
    """

    def __init__(self, contract: Contract, threshold: float, boxes: bool) -> None:
        self._contract, self._threshold, self._boxes = contract, threshold, boxes
        self._spread: list[Picture] = []
        self._failed: list[Picture] = []
        self.step = 1

    def add(
        self,
        index: int,
        key: str | int,
        image: NDArray[np.uint8],
        drawn: bool,
        people: Keypoints | None,
        error: str,
    ) -> None:
        """Keep a frame, if it is one of those; see `RunPage.add`."""
        failed = people is None
        if index % self.step and not (failed and len(self._failed) < FAILED):
            return
        count = 0 if people is None else len(people)
        score = float(people.score.mean()) if people else None
        picture = Picture(index, key, count, score, failed, error, self._jpeg(image, None if drawn else people))
        if failed and len(self._failed) < FAILED:
            self._failed.append(picture)
        elif not index % self.step:
            self._spread.append(picture)
            if len(self._spread) > SPREAD:
                self.step *= 2
                self._spread = [kept for kept in self._spread if not kept.index % self.step]

    def all(self) -> list[Picture]:
        """All pictures in the order of their frames."""
        return sorted([*self._spread, *self._failed], key=lambda picture: picture.index)

    def _jpeg(self, image: NDArray[np.uint8], people: Keypoints | None) -> bytes:
        height, width = image.shape[:2]
        factor = min(1.0, SIDE / max(height, width))
        if factor < 1:
            size = (max(1, round(width * factor)), max(1, round(height * factor)))
            small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        else:
            small = image.copy()
        if people is not None:
            # The centre of the first pixel of the frame lies at (factor - 1) / 2 of the picture.
            xy = (people.xy + np.float32(0.5)) * np.float32(factor) - np.float32(0.5)
            scaled = replace(people, xy=xy, boxes=people.boxes * np.float32(factor))
            draw(small, scaled, self._contract, threshold=self._threshold, boxes=self._boxes)
        for quality in (82, 65, 45, 25):
            jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
            if len(jpeg) <= _BYTES:
                break
        return jpeg
