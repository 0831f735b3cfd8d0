"""The same from Python, frame by frame, as a program with a camera does it: python camera.py VIDEO."""

import sys

import cv2

from posert.runtime import PosePipeline
from posert.runtime.smoothing import OneEuro

pipeline = PosePipeline("out/demo/hrnet_demo.pose", "out/04/detector.onnx", detect_every=3, smooth=OneEuro(), fps=25)
video = cv2.VideoCapture(sys.argv[1])  # a camera: cv2.VideoCapture(0)
number = 0
while (read := video.read())[0]:
    people = pipeline(read[1])
    if number % 10 == 0:
        print(number, people.ids, people.xy.shape)
    number += 1
