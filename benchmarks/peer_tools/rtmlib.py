"""rtmlib: its class for heatmap networks is ViTPose."""

from __future__ import annotations

from importlib.metadata import version

import cv2
import numpy as np
import rtmlib
from numpy.typing import NDArray

from .adapter import Adapter, Inputs, Joints, UnavailableError


def open_adapter(inputs: Inputs) -> Adapter:
    """Its own crops, ONNX Runtime, and its own decoding, which is not the model's."""
    if inputs["padding"] != 1.25:
        raise UnavailableError(f"rtmlib pads boxes by 1.25; this model needs {inputs['padding']}")
    estimator = rtmlib.ViTPose(
        inputs["onnx"],
        model_input_size=(inputs["width"], inputs["height"]),
        mean=tuple(inputs["mean"]),
        std=tuple(inputs["std"]),
        backend="onnxruntime",
        device="cpu",
    )

    def call(frame: NDArray[np.uint8], boxes: NDArray[np.float64]) -> Joints:
        # It leaves the channels as they are.
        image = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) if inputs["model_color"] == "RGB" else frame
        xy, score = estimator(image, boxes.tolist())
        return xy, score

    description = {
        "tool": f"rtmlib {version('rtmlib')} on ONNX Runtime {version('onnxruntime')}",
        "precision": "fp32",
        "threads": "default",
        "people": "one by one",
        "decode": "DARK-UDP, the only one for heatmaps",
        "pipeline": "its own",
    }
    return Adapter(call, description)
