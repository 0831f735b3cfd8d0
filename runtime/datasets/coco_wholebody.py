"""COCO-WholeBody (133 joints): COCO's body, feet, face and both hands, each evaluated by itself and all together."""

from ..metrics.oks_parts import OKS_PARTS
from . import Dataset
from .coco import DATASET as COCO

_FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
_HAND = ("hand_root", *(f"{finger}{joint}" for finger in _FINGERS for joint in (1, 2, 3, 4)))
# Tables are kept in rows.
# fmt: off
_HAND_SIGMAS = (
    0.029, 0.022, 0.035, 0.037, 0.047, 0.026, 0.025, 0.024, 0.035, 0.018, 0.024, 0.022, 0.026, 0.017, 0.021, 0.021,
    0.032, 0.02, 0.019, 0.022, 0.031,
)


DATASET = Dataset(
    name="coco_wholebody",
    keypoints=(
        *COCO.keypoints,
        "left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel",
        *(f"face-{point}" for point in range(68)),
        *(f"left_{joint}" for joint in _HAND),
        *(f"right_{joint}" for joint in _HAND),
    ),
    flip_pairs=(
        *COCO.flip_pairs,
        (17, 20), (18, 21), (19, 22), (23, 39), (24, 38), (25, 37), (26, 36), (27, 35), (28, 34), (29, 33),
        (30, 32), (40, 49), (41, 48), (42, 47), (43, 46), (44, 45), (54, 58), (55, 57), (59, 68), (60, 67),
        (61, 66), (62, 65), (63, 70), (64, 69), (71, 77), (72, 76), (73, 75), (78, 82), (79, 81), (83, 87),
        (84, 86), (88, 90),
        *((joint, joint + 21) for joint in range(91, 112)),
    ),
    skeleton=(
        *COCO.skeleton,
        (15, 17), (15, 18), (15, 19), (16, 20), (16, 21), (16, 22),
        # five fingers of four joints, each hanging from the hand's root
        *((root if i % 4 == 0 else root + i, root + i + 1) for root in (91, 112) for i in range(20)),
    ),
    sigmas=(
        *COCO.sigmas,
        0.068, 0.066, 0.066, 0.092, 0.094, 0.094, 0.042, 0.043, 0.044, 0.043, 0.04, 0.035, 0.031, 0.025, 0.02,
        0.023, 0.029, 0.032, 0.037, 0.038, 0.043, 0.041, 0.045, 0.013, 0.012, 0.011, 0.011, 0.012, 0.012, 0.011,
        0.011, 0.013, 0.015, 0.009, 0.007, 0.007, 0.007, 0.012, 0.009, 0.008, 0.016, 0.01, 0.017, 0.011, 0.009,
        0.011, 0.009, 0.007, 0.013, 0.008, 0.011, 0.012, 0.01, 0.034, 0.008, 0.008, 0.009, 0.008, 0.008, 0.007,
        0.01, 0.008, 0.009, 0.009, 0.009, 0.007, 0.007, 0.008, 0.011, 0.008, 0.008, 0.008, 0.01, 0.008,
        *_HAND_SIGMAS,
        *_HAND_SIGMAS,
    ),
    metric=OKS_PARTS,
    boxes="detections",
    parts=(
        ("body", "keypoints", 0, 17),
        ("foot", "foot_kpts", 17, 23),
        ("face", "face_kpts", 23, 91),
        ("lefthand", "lefthand_kpts", 91, 112),
        ("righthand", "righthand_kpts", 112, 133),
    ),
)
