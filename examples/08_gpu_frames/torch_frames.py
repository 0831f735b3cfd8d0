"""Frames that PyTorch holds on the GPU, as its video decoders and data loaders give them."""

import sys

import cv2
import numpy as np
import torch

from posert.runtime import PoseEstimator

if not torch.cuda.is_available():
    sys.exit("no GPU: torch.cuda.is_available() is False")

boxes = [[208, 0, 308, 178]]  # xyxy, px of the frame
on_host = cv2.imread("out/08/people/images/000000.png")
frame = torch.from_numpy(on_host).cuda()  # (H, W, 3) uint8 BGR

pose = PoseEstimator("out/demo/hrnet_demo.pose")
people = pose(frame, boxes)  # reads the frame where it lies, after what PyTorch's current stream does to it
print(pose.selection.backend, people.xy.shape)
print("equal to a frame of the host:", np.array_equal(people.xy, pose(on_host, boxes).xy))
