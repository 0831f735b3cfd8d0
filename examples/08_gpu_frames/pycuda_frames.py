"""Frames of pycuda, in a stream of yours; the host does not wait until the joints are read."""

import sys

import cv2
import numpy as np

from posert.runtime import PoseEstimator
from posert.runtime.pose.preprocess import crop_regions

try:
    from pycuda import driver, gpuarray
except Exception as error:  # ImportError without pycuda, an error of CUDA's without a GPU
    sys.exit(f"no GPU: {error}")

boxes = np.array([[208, 0, 308, 178]], np.float64)  # xyxy, px of the frame
on_host = cv2.imread("out/08/people/images/000000.png")

pose = PoseEstimator("out/demo/hrnet_demo.pose")
pipeline = pose.open_pipeline()
regions = crop_regions(boxes, pose.contract)

stream = driver.Stream()
frame = gpuarray.to_gpu_async(on_host, stream=stream)  # (H, W, 3) uint8 BGR
joints = gpuarray.empty((1, 17, 3), np.float32)  # x and y in px of the frame, and score
pipeline.into(joints, frame, *regions, stream=stream)  # returns at once; the stream orders what follows
found = joints.get_async(stream=stream)
stream.synchronize()
print(pose.selection.backend, found.shape)
print("equal to a frame of the host:", np.array_equal(found[..., :2], pose(on_host, boxes).xy))
