"""ONNX Runtime on a CPU: runs everywhere; its int8 is slower than its fp32 for symmetric Q/DQ graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError
from ..pose.heads import Outputs
from ..system.forks import OfOneProcess
from . import Backend


def open_graph(model: bytes, precision: str, options: Any, provider: Any) -> Any:
    """A session of the library, with one execution provider. Raises BackendError: the library refused the graph."""
    import onnxruntime as ort

    options.log_severity_level = 3  # its warnings about unused initialisers do not help the user
    try:
        return ort.InferenceSession(model, options, providers=[provider])
    except Exception as error:  # the library's exceptions share no base class but Exception
        raise BackendError(f"ONNX Runtime {ort.__version__} refused the {precision} graph: {error}") from error


class Session(OfOneProcess):
    """One ONNX Runtime session; see `backends.Session`."""

    def __init__(self, model: bytes, precision: str, threads: int | None = None) -> None:
        import onnxruntime as ort

        super().__init__()

        options = ort.SessionOptions()
        if precision == "int8_gpu":
            # Measured as it is written: the library's own int8 would quantise more than the graph says, such as the
            # bias.
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        if threads is not None:
            options.intra_op_num_threads = threads
        self._session = open_graph(model, precision, options, "CPUExecutionProvider")
        self._input = self._session.get_inputs()[0].name

    def infer(self, crops: NDArray[np.uint8]) -> Outputs:
        self.check_process()
        try:
            return tuple(self._session.run(None, {self._input: crops}))
        except Exception as error:  # as in `open_graph`
            raise BackendError(f"ONNX Runtime {BACKEND.library_version()} failed while it ran: {error}") from error


BACKEND = Backend(
    name="onnxruntime",
    library="onnxruntime",
    extra="onnxruntime",
    rank=60,
    # int8_gpu: the graph for GPUs, so that a machine without one can check it
    precisions={"fp32": "fp32", "int8": "int8", "fp16": "fp16", "int8_gpu": "int8_gpu"},
    open=Session,
    notes={"int8": "OpenVINO is faster"},
)
