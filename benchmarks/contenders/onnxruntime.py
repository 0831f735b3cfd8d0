"""ONNX Runtime with the pipeline by hand."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from .handwritten import DOES, pipeline
from .worker import Given, Opened


def open(given: Given) -> Opened:
    """A session with all settings as they come."""
    session = ort.InferenceSession(given["onnx"], providers=["CPUExecutionProvider"])

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        heatmaps: NDArray[np.float32] = session.run(None, {"images": images})[0]
        return heatmaps

    does = {"tool": f"ONNX Runtime {ort.__version__}", "precision": "fp32", "threads": "default", **DOES}
    return Opened(pipeline(given, run), does)
