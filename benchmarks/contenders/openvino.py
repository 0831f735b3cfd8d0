"""OpenVINO with the pipeline by hand."""

from __future__ import annotations

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from .handwritten import DOES, pipeline
from .worker import Absent, Given, Opened


def open(given: Given) -> Opened:
    """A model compiled for latency, computed in the `precision` that is given: "fp32" or "bf16"."""
    core, precision = ov.Core(), given["precision"]
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise Absent("this CPU does not compute in bf16")
    hint = {"fp32": "f32", "bf16": "bf16"}[precision]
    compiled = core.compile_model(
        given["onnx"], "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
    )

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        heatmaps: NDArray[np.float32] = compiled(images)[0]
        return heatmaps

    threads = compiled.get_property("INFERENCE_NUM_THREADS")
    does = {"tool": f"OpenVINO {ov.__version__.split('-')[0]}", "precision": precision, "threads": threads, **DOES}
    return Opened(pipeline(given, run), does)
