"""MPII human pose (16 joints), evaluated by PCKh; its boxes are a centre and a scale."""

from ..metrics.pckh import PCKH
from . import Dataset

# Tables are kept in rows.
# fmt: off
DATASET = Dataset(
    name="mpii",
    keypoints=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax",
        "upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow",
        "left_wrist",
    ),
    flip_pairs=(
        (0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13),
    ),
    skeleton=(
        (0, 1), (1, 2), (2, 6), (6, 3), (3, 4), (4, 5), (6, 7), (7, 8), (8, 9), (8, 12), (12, 11), (11, 10),
        (8, 13), (13, 14), (14, 15),
    ),
    sigmas=(
        0.089, 0.083, 0.107, 0.107, 0.083, 0.089, 0.026, 0.026, 0.026, 0.026, 0.062, 0.072, 0.179, 0.179, 0.072,
        0.062,
    ),
    metric=PCKH,
    boxes="annotated",
    # all but pelvis and thorax count in the mean
    evaluated=(0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15),
)
