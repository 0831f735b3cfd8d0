"""The pipeline that users write by hand around a heatmap network, with OpenCV and numpy.

Straightforward, neither slow on purpose nor tuned: one `warpAffine` and one normalisation per person, the people of a
frame as one batch, the peak of each map moved by a quarter cell towards its higher neighbour. The rules are those of
MMPose, so the keypoints must be the reference's.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from .worker import Absent, Given, Joints

Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]

DOES = {"people": "a batch", "decode": "argmax and a quarter offset", "pipeline": "OpenCV and numpy, by hand"}


def pipeline(given: Given, network: Network) -> Callable[[NDArray[np.uint8], NDArray[np.float64]], Joints]:
    """Frame and boxes to joints around a network, images `(N, 3, H, W)` float32 to heatmaps `(N, K, h, w)`.

    Raises:
        Absent: the model wants other rules than are written here.
    """
    if given["decode"] != "default" or given["udp"]:
        raise Absent(f"the pipeline by hand has the quarter offset only, this model wants {given['decode']}")
    width, height = given["width"], given["height"]
    mean, std = np.array(given["mean"], np.float32), np.array(given["std"], np.float32)

    def call(frame: NDArray[np.uint8], boxes: NDArray[np.float64]) -> Joints:
        images, centers, sizes = [], [], []
        for x1, y1, x2, y2 in boxes:
            w, h = x2 - x1, y2 - y1
            if w > h * width / height:
                h = w * height / width
            else:
                w = h * width / height
            center = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
            size = np.array([w, h]) * given["padding"]
            factor = width / size[0]
            matrix = np.array(
                [[factor, 0, width / 2 - factor * center[0]], [0, factor, height / 2 - factor * center[1]]]
            )
            image = cv2.warpAffine(frame, matrix, (width, height), flags=cv2.INTER_LINEAR)
            if given["model_color"] == "RGB":
                image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            images.append(((image.astype(np.float32) - mean) / std).transpose(2, 0, 1))
            centers.append(center)
            sizes.append(size)
        maps = network(np.ascontiguousarray(images, np.float32))
        n, k, h, w = maps.shape
        flat = maps.reshape(n, k, -1)
        best, score = flat.argmax(axis=2), flat.max(axis=2)
        xy = np.stack([best % w, best // w], axis=2).astype(np.float32)
        for i in range(n):
            for j in range(k):
                x, y = int(xy[i, j, 0]), int(xy[i, j, 1])
                if 1 < x < w - 1 and 1 < y < h - 1:
                    m = maps[i, j]
                    xy[i, j] += 0.25 * np.sign([m[y, x + 1] - m[y, x - 1], m[y + 1, x] - m[y - 1, x]])
        scale = np.array(sizes)[:, None] / [w, h]
        return xy * scale + np.array(centers)[:, None] - np.array(sizes)[:, None] / 2, score

    return call
