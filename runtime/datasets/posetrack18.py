"""PoseTrack18 (17 joints, ears never labelled), evaluated per joint by poseval on 15 of them."""

from ..metrics.poseval import POSEVAL
from . import Dataset
from .coco import DATASET as COCO

# Tables are kept in rows.
# fmt: off
DATASET = Dataset(
    name="posetrack18",
    keypoints=(
        "nose", "head_bottom", "head_top", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
        "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee",
        "left_ankle", "right_ankle",
    ),
    flip_pairs=(
        (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16),
    ),
    skeleton=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10),
        (0, 1), (0, 2), (1, 5), (1, 6),
    ),
    sigmas=COCO.sigmas,
    metric=POSEVAL,
    boxes="either",
    detection_threshold=0.4,
    # the order in which poseval reports; it ends with the head
    evaluated=(16, 14, 12, 11, 13, 15, 10, 8, 6, 5, 7, 9, 1, 0, 2),
)
