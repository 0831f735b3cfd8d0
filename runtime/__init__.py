"""The edge runtime: bundle -> engine -> frame and boxes -> keypoints. Needs numpy and OpenCV, never torch or onnx.

>>> from posert.runtime import PoseEstimator
>>> pose = PoseEstimator("hrnet_w32-coco-256x192.pose")
>>> people = pose(frame_bgr, boxes_xyxy)
"""

from .estimator import PoseEstimator
from .keypoints import Keypoints

__all__ = ["Keypoints", "PoseEstimator"]
