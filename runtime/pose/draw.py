"""Draw people's skeletons on a frame."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from ..bundle.contract import Contract
from ..errors import InputError
from .keypoints import Keypoints

# BGR. They also differ in brightness, which separates left from right in greyscale and for colour-blind readers.
COLORS = {"left": (255, 200, 60), "right": (20, 80, 255), "centre": (120, 230, 160)}
SIDES = tuple(COLORS)
_OUTLINE = (24, 24, 24)
_BOX = (200, 200, 200)
# Boxes of people with ids, BGR, light enough for dark text: of the palette of Okabe and Ito (2008) and its tints.
_IDS = (
    (233, 180, 86),
    (0, 159, 230),
    (115, 190, 60),
    (167, 141, 224),
    (66, 228, 240),
    (200, 160, 120),
    (110, 140, 240),
    (200, 200, 200),
)

_SHIFT = 4  # OpenCV draws at 1/16 px
_FAR = 1 << 14  # px: outside any frame, and within OpenCV's 32-bit coordinates after the shift
_DENSE = 30  # skeletons with more joints have fingers and a face, and need finer lines


def draw(
    frame: NDArray[np.uint8], people: Keypoints, contract: Contract, *, threshold: float = 0.3, boxes: bool = False
) -> NDArray[np.uint8]:
    """Draw limbs and joints in place: the person's left side blue, the right side orange, the middle green.

    Line width grows with the person's box.

    Args:
        frame: `(H, W, 3)` uint8 BGR, writable; changed in place. Pass `frame.copy()` to keep it.
        people: from `PoseEstimator`; `xy` in px of the frame.
        contract: `PoseEstimator.contract`, which defines the skeleton.
        threshold: joints with a lower score are not drawn, nor are limbs that end in one. `-inf` draws all finite
            joints.
        boxes: whether to draw the boxes, and the ids of people who have one, each id in a colour of its own.

    Returns:
        `frame`.

    Raises:
        InputError: the frame has another type or is read-only, or the people have other joints than the contract.
    """
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.flags.writeable:
        raise InputError(
            f"cannot draw on {frame.dtype} {frame.shape}, writable: {frame.flags.writeable}; expected a writable "
            "uint8 (H, W, 3) BGR frame, such as frame.copy()"
        )
    if people.xy.shape[1:] != (len(contract.keypoints), 2):
        raise InputError(
            f"the people have {people.xy.shape[1]} joints, the contract {len(contract.keypoints)}: "
            "pass the contract of the estimator that produced them"
        )
    canvas = frame if frame.flags.c_contiguous else np.ascontiguousarray(frame)  # as OpenCV needs
    shape = layout(contract)
    seen = (people.score >= threshold) & np.isfinite(people.xy).all(2)
    xy = np.nan_to_num(people.xy, nan=0.0).clip(-_FAR, _FAR)
    points = np.round(xy * (1 << _SHIFT)).astype(np.int32)
    side = np.sqrt(np.prod(people.boxes[:, 2:] - people.boxes[:, :2], axis=1).clip(1.0))
    weights = np.maximum(1, np.round(side / (250 if len(contract.keypoints) > _DENSE else 80))).astype(int)
    for person in range(len(people)):
        weight = int(weights[person])
        if boxes:
            _box(canvas, people, person, weight)
        lines = points[person][shape.limbs]
        shown = seen[person][shape.limbs].all(1)
        # A line from a joint to itself, with round ends, is a disc; one call draws all of them.
        discs = points[person][:, None].repeat(2, axis=1)
        _strokes(canvas, discs[seen[person]], _OUTLINE, 2 * weight + 2)
        for index, name in enumerate(SIDES):
            _strokes(canvas, lines[shown & (shape.limb_sides == index)], COLORS[name], weight)
        for index, name in enumerate(SIDES):
            _strokes(canvas, discs[seen[person] & (shape.joint_sides == index)], COLORS[name], 2 * weight)
    if canvas is not frame:
        frame[:] = canvas
    return frame


def _box(canvas: NDArray[np.uint8], people: Keypoints, person: int, weight: int) -> None:
    """Draw a person's box, and the id at its upper left corner."""
    corners = people.boxes[person].clip(-_FAR, _FAR).round().astype(int).tolist()
    number = None if people.ids is None else int(people.ids[person])
    color = _BOX if number is None else _IDS[number % len(_IDS)]
    cv2.rectangle(canvas, corners[:2], corners[2:], color, max(1, weight // 2), cv2.LINE_AA)
    if number is None:
        return
    scale = 0.4 + 0.1 * weight
    (width, height), below = cv2.getTextSize(str(number), cv2.FONT_HERSHEY_SIMPLEX, scale, weight)
    left, top = max(corners[0], 0), max(corners[1], height + below + 2)
    cv2.rectangle(canvas, (left, top - height - below - 2), (left + width + 4, top), color, cv2.FILLED)
    place = (left + 2, top - below)
    cv2.putText(canvas, str(number), place, cv2.FONT_HERSHEY_SIMPLEX, scale, _OUTLINE, weight, cv2.LINE_AA)


def _strokes(canvas: NDArray[np.uint8], lines: NDArray[np.int32], color: tuple[int, int, int], width: int) -> None:
    if len(lines):
        cv2.polylines(canvas, list(lines), False, color, width, cv2.LINE_AA, _SHIFT)


@dataclass(frozen=True)
class Layout:
    """Limbs `(L, 2)` as pairs of joints, and the side of each joint `(K,)` and limb `(L,)` as indices into `SIDES`."""

    limbs: NDArray[np.intp]
    joint_sides: NDArray[np.intp]
    limb_sides: NDArray[np.intp]


@lru_cache(maxsize=8)
def layout(contract: Contract) -> Layout:
    """Limbs and sides of a skeleton.

    The sides are those in the names of the flip pairs; pairs without one (points of a face) count as the middle.
    """
    centre = SIDES.index("centre")
    joints = np.full(len(contract.keypoints), centre)
    for joint in (joint for pair in contract.flip_pairs for joint in pair):
        for side in ("left", "right"):
            if side in contract.keypoints[joint].lower():
                joints[joint] = SIDES.index(side)
    limbs = np.array(contract.skeleton, np.intp).reshape(-1, 2)
    # A limb between the sides (the shoulders) is in the middle; a limb from the middle to a side belongs to that side.
    first, second = joints[limbs].T
    first, second = np.where(first == centre, second, first), np.where(second == centre, first, second)
    return Layout(limbs, joints, np.where(first == second, first, centre))
