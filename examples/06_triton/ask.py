"""Ask the server for the people of a frame, and compare with the bundle itself: python ask.py [localhost:8001]"""

import sys

import cv2
import numpy as np

from posert.runtime import PoseEstimator
from posert.runtime.serving import PoseClient

frame = cv2.imread("out/06/people/images/000000.png")
boxes = [[208, 0, 308, 178]]
with PoseClient(sys.argv[1], "hrnet_demo", timeout=60) as pose:  # tries again until the server answers
    people = pose(frame, boxes)
print(f"{len(people.xy)} person with {people.xy.shape[1]} joints; the nose is at {people.xy[0, 0].round()}")
own = PoseEstimator("out/demo/hrnet_demo.pose")(frame, boxes)
print("equal to PoseEstimator:", np.array_equal(people.xy, own.xy))
