"""Frames of CuPy, and joints that stay on the GPU."""

import sys

import cv2
import numpy as np

from posert.runtime import PoseEstimator
from posert.runtime.pose.preprocess import crop_regions

try:
    import cupy

    cupy.cuda.runtime.getDeviceCount()
except Exception as error:  # ImportError without CuPy, an error of CUDA's without a GPU
    sys.exit(f"no GPU: {error}")

boxes = np.array([[208, 0, 308, 178]], np.float64)  # xyxy, px of the frame
on_host = cv2.imread("out/08/people/images/000000.png")
frame = cupy.asarray(on_host)  # (H, W, 3) uint8 BGR

pose = PoseEstimator("out/demo/hrnet_demo.pose")
people = pose(frame, boxes)
print(pose.selection.backend, people.xy.shape)

pipeline = pose.open_pipeline()
joints = cupy.empty((1, 17, 3), np.float32)  # x and y in px of the frame, and score
stream = cupy.cuda.Stream()
pipeline.into(joints, frame, *crop_regions(boxes, pose.contract), stream=stream)  # returns at once
stream.synchronize()
print("equal to joints of the host:", np.array_equal(cupy.asnumpy(joints)[..., :2], people.xy))
