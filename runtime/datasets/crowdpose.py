"""CrowdPose (14 joints), evaluated by OKS without the area, also by how crowded an image is."""

from ..metrics.oks_crowd import OKS_CROWD
from . import Dataset

# Tables are kept in rows.
# fmt: off
DATASET = Dataset(
    name="crowdpose",
    keypoints=(
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip",
        "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "top_head", "neck",
    ),
    flip_pairs=(
        (0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (10, 11),
    ),
    skeleton=(
        (10, 8), (8, 6), (11, 9), (9, 7), (6, 7), (0, 6), (1, 7), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (12, 13),
        (1, 13), (0, 13),
    ),
    sigmas=(
        0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089, 0.079, 0.079,
    ),
    metric=OKS_CROWD,
    boxes="detections",
    use_area=False,
)
