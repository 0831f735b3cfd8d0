"""mmdeploy-runtime: MMDeploy's C++ SDK with ONNX Runtime inside."""

from __future__ import annotations

from importlib.metadata import version

import mmdeploy_runtime
import numpy as np
from numpy.typing import NDArray

from .worker import Given, Joints, Opened


def open(given: Given) -> Opened:
    """The SDK directory that `materials.sdk` writes, with the `batch` that is given."""
    folder = f"{given['sdk']}-{given['batch']}"
    detector = mmdeploy_runtime.PoseDetector(model_path=folder, device_name="cpu", device_id=0)

    def call(frame: NDArray[np.uint8], boxes: NDArray[np.float64]) -> Joints:
        # Its boxes include their last pixel.
        joints = detector(frame, (boxes - [0, 0, 1, 1]).tolist())
        return joints[..., :2], joints[..., 2]

    does = {
        "tool": f"mmdeploy-runtime {version('mmdeploy-runtime')}, its ONNX Runtime",
        "precision": "fp32",
        "threads": "default",
        "people": "one by one" if given["batch"] == 1 else "a batch",
        "decode": f"C++, rule {given['decode']}",
        "pipeline": "C++",
    }
    return Opened(call, does)
