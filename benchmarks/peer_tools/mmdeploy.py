"""mmdeploy-runtime: MMDeploy's C++ SDK with ONNX Runtime inside."""

from __future__ import annotations

from importlib.metadata import version

import mmdeploy_runtime
import numpy as np
from numpy.typing import NDArray

from .adapter import Adapter, Inputs, Joints


def open_adapter(inputs: Inputs) -> Adapter:
    """The SDK folder that `inputs.write_sdk_folder` wrote for the option `batch`."""
    folder = f"{inputs['sdk']}-{inputs['batch']}"
    detector = mmdeploy_runtime.PoseDetector(model_path=folder, device_name="cpu", device_id=0)

    def call(frame: NDArray[np.uint8], boxes: NDArray[np.float64]) -> Joints:
        # Its boxes include their last pixel.
        joints = detector(frame, (boxes - [0, 0, 1, 1]).tolist())
        return joints[..., :2], joints[..., 2]

    description = {
        "tool": f"mmdeploy-runtime {version('mmdeploy-runtime')}, its ONNX Runtime",
        "precision": "fp32",
        "threads": "default",
        "people": "one by one" if inputs["batch"] == 1 else "a batch",
        "decode": f"C++, rule {inputs['decode']}",
        "pipeline": "C++",
    }
    return Adapter(call, description)
