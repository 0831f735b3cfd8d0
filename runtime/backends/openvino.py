"""OpenVINO on a CPU: the default there."""

from __future__ import annotations

import contextlib

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from ..errors import BackendError
from . import Request

_CORE = ov.Core()
_CAN = _CORE.get_property("CPU", "OPTIMIZATION_CAPABILITIES")

# bf16 is no graph of its own: the fp32 graph, computed in bfloat16 by CPUs that have it in hardware.
PRECISIONS = {"int8": "int8", **({"bf16": "fp32"} if "BF16" in _CAN else {}), "fp32": "fp32", "fp16": "fp16"}
LACKING = {} if "BF16" in _CAN else {"bf16": "this CPU has no bfloat16 arithmetic (AVX512_BF16 or AMX): use fp32"}


class Session:
    """One compiled model with a dynamic batch; see `backends.AsyncSession`."""

    _HINT = "LATENCY"

    def __init__(self, model: bytes, precision: str, threads: int | None = None) -> None:
        # Left to itself OpenVINO computes fp32 graphs in bf16 where the CPU can: that is another precision than the
        # one that was asked for and gated.
        hint = "bf16" if precision == "bf16" else "f32"
        config = {"PERFORMANCE_HINT": self._HINT, "INFERENCE_PRECISION_HINT": hint}
        if threads is not None:
            config["INFERENCE_NUM_THREADS"] = str(threads)
        try:
            self._compiled = _CORE.compile_model(_CORE.read_model(model), "CPU", config)
        except RuntimeError as error:
            raise BackendError(f"OpenVINO {ov.__version__} refused the {precision} graph: {error}") from error
        self._request = self._compiled.create_infer_request()

    def infer(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        self._request.set_input_tensor(ov.Tensor(crops, shared_memory=True))
        self._request.infer(share_outputs=True)
        heatmaps: NDArray[np.float32] = self._request.get_output_tensor().data
        return heatmaps

    def requests(self) -> list[Request]:
        # One more than run at a time, so that the next begins while its caller still looks at the last one's result.
        count = int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")) + 1
        return [_Request(self._compiled.create_infer_request()) for _ in range(count)]


class Throughput(Session):
    """The same for many frames: several batches run side by side, each on few cores."""

    _HINT = "THROUGHPUT"


class _Request:
    """See `backends.Request`."""

    def __init__(self, request: ov.InferRequest) -> None:
        self._request = request

    def start(self, crops: NDArray[np.uint8]) -> None:
        self._request.set_input_tensor(ov.Tensor(crops, shared_memory=True))
        self._request.start_async()

    def wait(self) -> NDArray[np.float32]:
        try:
            self._request.wait()
        except RuntimeError as error:
            raise BackendError(f"OpenVINO {ov.__version__} failed while it ran: {error}") from error
        heatmaps: NDArray[np.float32] = self._request.get_output_tensor().data
        return heatmaps

    def cancel(self) -> None:
        self._request.cancel()
        with contextlib.suppress(RuntimeError):  # that it was cancelled
            self._request.wait()
