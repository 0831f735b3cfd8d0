"""Checks of a detector's first frames, which show that its layout, colours or scale were guessed wrong."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from .layouts import Candidates

log = logging.getLogger("posert")

FRAMES = 10
"""How many frames are looked at."""
_MOST = 0.2  # of the boxes may look wrong: single bad boxes occur in good detectors
_SMALLEST = 2.0  # px of the input: relative boxes that are taken for px are smaller
_LARGEST = 1.5  # of the input's side: the box of a person who fills the picture reaches over its edges by less
_FEWEST = 3  # boxes that can be equal by chance


class FirstFrames:
    """Collects what was found in the first frames, and warns once.

    Args:
        size: (height, width) of the network's input.
    """

    def __init__(self, name: str, size: tuple[int, int]) -> None:
        self._name, self._size = name, size
        self._frames = 0
        self._boxes: list[NDArray[np.float32]] = []
        self._scores: list[NDArray[np.float32]] = []

    def add(self, found: Candidates) -> None:
        """The candidates of one more frame, of all classes."""
        if self._frames == FRAMES:
            return
        self._frames += 1
        self._boxes.append(found.boxes)
        self._scores.append(found.score)
        count = sum(map(len, self._boxes))
        reasons = self._reasons() if count else [f"nothing was found in the first {FRAMES} frames"]
        if reasons and (self._frames == FRAMES or count >= _FEWEST):
            self._frames = FRAMES
            log.warning(
                "%s: the layout, colours or scale of this detector may be guessed wrong: %s. "
                "layout=, color=, placement=, scale=, mean= and std= of Detector override the guess",
                self._name,
                "; ".join(reasons),
            )

    def _reasons(self) -> list[str]:
        """What looks wrong in the boxes so far."""
        boxes, scores = np.concatenate(self._boxes), np.concatenate(self._scores)
        height, width = self._size
        extent, centre = boxes[:, 2:] - boxes[:, :2], (boxes[:, :2] + boxes[:, 2:]) / 2
        outside = ((centre < 0) | (centre > (width, height))).any(axis=1)
        odd = (extent < _SMALLEST).any(axis=1) | (extent > _LARGEST * np.array([width, height])).any(axis=1)
        reasons = []
        if (scores > 1.001).any():
            reasons.append(f"scores reach {scores.max():.3g}, not 1")
        if outside.mean() > _MOST:
            reasons.append(f"{outside.sum()} of {len(boxes)} boxes lie outside the picture")
        if odd.mean() > _MOST:
            reasons.append(f"{odd.sum()} of {len(boxes)} boxes are smaller than 2 px or larger than the picture")
        if len(boxes) >= _FEWEST and np.ptp(boxes, axis=0).max() < 1e-3:
            reasons.append(f"all {len(boxes)} boxes are equal")
        return reasons
