"""AI Challenger keypoints (14 joints), evaluated with ground-truth boxes and an area taken from the box."""

from ..metrics.oks import OKS
from . import Dataset

# Tables are kept in rows.
# fmt: off
DATASET = Dataset(
    name="aic",
    keypoints=(
        "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist", "right_hip",
        "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "head_top", "neck",
    ),
    flip_pairs=(
        (0, 3), (1, 4), (2, 5), (6, 9), (7, 10), (8, 11),
    ),
    skeleton=(
        (2, 1), (1, 0), (0, 13), (13, 3), (3, 4), (4, 5), (8, 7), (7, 6), (6, 9), (9, 10), (10, 11), (12, 13),
        (0, 6), (3, 9),
    ),
    sigmas=(
        0.01388152, 0.01515228, 0.01057665, 0.01417709, 0.01497891, 0.01402144, 0.03909642, 0.03686941, 0.01981803,
        0.03843971, 0.03412318, 0.02415081, 0.01291456, 0.01236173,
    ),
    metric=OKS,
    boxes="annotated",
    legacy_sigmas=(
        0.02776304, 0.03030456, 0.0211533, 0.02835418, 0.02995782, 0.02804288, 0.07819284, 0.07373882, 0.03963606,
        0.07687942, 0.06824636, 0.04830162, 0.02582912, 0.02472346,
    ),
    use_area=False,
)
