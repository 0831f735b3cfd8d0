"""rtmlib: its ViTPose class is the one that takes heatmap networks."""

from __future__ import annotations

from importlib.metadata import version

import cv2
import numpy as np
import rtmlib
from numpy.typing import NDArray

from .worker import Absent, Given, Joints, Opened


def open(given: Given) -> Opened:
    """Its own crops, ONNX Runtime, and its own decoding, which is not the model's."""
    if given["padding"] != 1.25:
        raise Absent(f"rtmlib pads boxes by 1.25 whatever the model wants, which is {given['padding']}")
    estimator = rtmlib.ViTPose(
        given["onnx"],
        model_input_size=(given["width"], given["height"]),
        mean=tuple(given["mean"]),
        std=tuple(given["std"]),
        backend="onnxruntime",
        device="cpu",
    )

    def call(frame: NDArray[np.uint8], boxes: NDArray[np.float64]) -> Joints:
        # It leaves the channels as they are.
        image = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) if given["model_color"] == "RGB" else frame
        xy, score = estimator(image, boxes.tolist())
        return xy, score

    does = {
        "tool": f"rtmlib {version('rtmlib')} on ONNX Runtime {version('onnxruntime')}",
        "precision": "fp32",
        "threads": "default",
        "people": "one by one",
        "decode": "DARK-UDP, the only one for heatmaps",
        "pipeline": "its own",
    }
    return Opened(call, does)
