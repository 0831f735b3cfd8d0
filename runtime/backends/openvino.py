"""OpenVINO on a CPU: the default there."""

from __future__ import annotations

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from ..errors import BackendError

PRECISIONS = {"int8": "int8", "fp32": "fp32", "fp16": "fp16"}


class Session:
    """One compiled model with a dynamic batch; see `backends.Session`."""

    def __init__(self, model: bytes, precision: str, threads: int | None = None) -> None:
        # Left to itself OpenVINO computes fp32 graphs in bf16 where the CPU can: that is another precision than the
        # one that was asked for and gated.
        config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads is not None:
            config["INFERENCE_NUM_THREADS"] = str(threads)
        try:
            core = ov.Core()
            compiled = core.compile_model(core.read_model(model), "CPU", config)
        except RuntimeError as error:
            raise BackendError(f"OpenVINO {ov.__version__} refused the {precision} graph: {error}") from error
        self._request = compiled.create_infer_request()

    def infer(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        self._request.set_input_tensor(ov.Tensor(crops, shared_memory=True))
        self._request.infer()
        heatmaps: NDArray[np.float32] = self._request.get_output_tensor().data
        return heatmaps
