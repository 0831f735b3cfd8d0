"""What a labeller would see of a drawn person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .mannequin import Vector
from .raster import EMPTY

SMALLEST = 60  # px; somebody of whom less is seen is not labelled

# How far the visible surface may lie in front of a joint, in statures, for the joint to count as visible.
SURFACE = np.repeat([0.03, 0.035, 0.065, 0.05, 0.045, 0.1, 0.065, 0.05], [3, 2, 2, 2, 2, 2, 2, 2])

OUTSIDE, COVERED, BEHIND, VISIBLE = range(4)
"""Of a joint: outside the image, hidden by others, hidden by its own body, seen."""


def outline(seen: NDArray[np.bool_]) -> dict[str, Any] | None:
    """COCO's box, area and segmentation of the pixels `(H, W)` of a person; None if they are too few."""
    area = int(seen.sum())
    if area < SMALLEST:
        return None
    rows, columns = np.nonzero(seen.any(1))[0], np.nonzero(seen.any(0))[0]
    outlines, _ = cv2.findContours(seen.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    x0, y0, x1, y1 = (int(v) for v in (columns[0], rows[0], columns[-1], rows[-1]))
    return {
        "bbox": [x0, y0, x1 - x0 + 1, y1 - y0 + 1],
        "area": area,
        "segmentation": [outline.reshape(-1).tolist() for outline in outlines if len(outline) >= 4],
    }


def visibility(
    points: Sequence[Vector], surface: Sequence[float] | Vector, seen: NDArray[np.bool_], depth: NDArray[np.float32]
) -> list[int]:
    """For each of K joints: OUTSIDE, COVERED, BEHIND or VISIBLE.

    Args:
        points: K times x, y, z, px of the frame.
        surface: K times how far what is drawn may lie in front of the joint, px.
        seen: `(H, W)`, where the person is the nearest thing.
        depth: `(H, W)` of the person alone, EMPTY where nothing of it is drawn.
    """
    height, width = seen.shape
    states = []
    for (x, y, z), reach in zip(points, surface, strict=True):
        if not (0 <= x <= width - 1 and 0 <= y <= height - 1):
            states.append(OUTSIDE)
            continue
        at = int(y + 0.5), int(x + 0.5)
        uncovered = depth[at] == EMPTY
        if not (uncovered or seen[at]):
            states.append(COVERED)
        else:
            states.append(VISIBLE if uncovered or depth[at] - z < reach else BEHIND)
    return states
