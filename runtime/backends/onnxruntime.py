"""ONNX Runtime on a CPU: runs everywhere; its int8 is slower than its fp32 for symmetric Q/DQ graphs."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError
from ..pose.heads import Outputs
from ..system.forks import OfOneProcess
from . import Backend, GraphRequest, Tensor

_MAX_BYTES = 1_750_000_000
"""For the arrays of a run, and the weights of open sessions. hrnet_w48 at 384x288 takes 0.25 GB for eight people,
flipped too."""

# Input x, output y, both float32 of one number, and an Identity between them.
_IDENTITY = (
    b'\x08\x08:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x11"
)


def open_graph(model: Path | bytes, precision: str, options: Any, provider: Any) -> Any:
    """A session of the library, with one execution provider. Raises BackendError: the library refused the graph."""
    import onnxruntime as ort

    options.log_severity_level = 4  # its warnings about unused initialisers do not help the user, its errors are raised
    if provider == "CPUExecutionProvider":
        release_memory()
        _share_memory(options)
    try:
        # Left to itself it tries again where a provider fails, and says so on standard output.
        return ort.InferenceSession(model, options, providers=[provider], enable_fallback=0)
    except Exception as error:  # the library's exceptions share no base class but Exception
        raise BackendError(f"ONNX Runtime {ort.__version__} refused the {precision} graph: {error}") from error


def release_memory() -> None:
    """Give back what no run is using: what was allocated once stays allocated otherwise.

    Before a session is opened, because the library reserves memory for weights without a look at the bound. Where no
    room is left, the difference, which has no sign, becomes a huge number: there is no bound from then on.
    """
    session, options = _smallest()
    session.run(None, {"x": np.zeros(1, np.float32)}, options)


@cache
def _smallest() -> tuple[Any, Any]:
    """A session that computes nothing, and the options of a run that ends with the release of memory."""
    import onnxruntime as ort

    _bound_memory()
    options, of_run = ort.SessionOptions(), ort.RunOptions()
    options.intra_op_num_threads = 1  # no threads of its own
    _share_memory(options)
    of_run.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return ort.InferenceSession(_IDENTITY, options, providers=["CPUExecutionProvider"]), of_run


def _share_memory(options: Any) -> None:
    options.add_session_config_entry("session.use_env_allocators", "1")
    # Weights of a large network fit where the arrays of a run take all of the bound.
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")


def _bound_memory() -> None:
    """Bound what the sessions of this process take together: a few bytes may ask for any number of gigabytes."""
    import onnxruntime as ort

    cpu = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    # Raises where the program that uses posert did this before; then its own bound holds.
    with contextlib.suppress(Exception):
        ort.create_and_register_allocator(cpu, ort.OrtArenaCfg({"max_mem": _MAX_BYTES}))


class OrtGraph:
    """A graph of any inputs and outputs, see `backends.GraphSession`; it runs while its caller waits."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs = tuple(map(_tensor, session.get_inputs()))
        self.outputs = tuple(map(_tensor, session.get_outputs()))
        self.metadata: Mapping[str, str] = dict(session.get_modelmeta().custom_metadata_map)

    def requests(self) -> list[GraphRequest]:
        return [_GraphRequest(self._session, [tensor.name for tensor in self.inputs])]


class _GraphRequest:
    def __init__(self, session: Any, names: list[str]) -> None:
        self._session, self._names = session, names
        self._outputs: tuple[NDArray[Any], ...] = ()

    def start(self, inputs: Sequence[NDArray[Any]]) -> None:
        try:
            self._outputs = tuple(self._session.run(None, dict(zip(self._names, inputs, strict=True))))
        except Exception as error:  # as in `open_graph`
            release_memory()
            raise BackendError(f"ONNX Runtime {BACKEND.library_version()} failed while it ran: {error}") from error

    def wait(self) -> tuple[NDArray[Any], ...]:
        return self._outputs

    def drop(self) -> None:
        pass


def _tensor(value: Any) -> Tensor:
    """A value of the library: its type is written as tensor(float), a size that is not fixed as a name or None."""
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    dtype = {"float": "float32", "double": "float64"}.get(kind, kind)
    return Tensor(value.name, tuple(size if isinstance(size, int) else None for size in value.shape), dtype)


def _open_any(model: Path | bytes, threads: int | None = None, throughput: bool = False) -> OrtGraph:
    """See `backends.OpenGraph`; the library has no mode for throughput."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    session = open_graph(model, "detector's", options, "CPUExecutionProvider")
    try:
        return OrtGraph(session)
    except UnicodeDecodeError as error:
        raise BackendError(f"the detector's graph has a name or metadata that is not UTF-8: {error}") from error


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
        try:
            self._input = self._session.get_inputs()[0].name
        except UnicodeDecodeError as error:
            raise BackendError(f"the {precision} graph has an input whose name is not UTF-8: {error}") from error

    def infer(self, crops: NDArray[np.uint8]) -> Outputs:
        self.check_process()
        try:
            return tuple(self._session.run(None, {self._input: crops}))
        except Exception as error:  # as in `open_graph`
            release_memory()
            raise BackendError(f"ONNX Runtime {BACKEND.library_version()} failed while it ran: {error}") from error


BACKEND = Backend(
    name="onnxruntime",
    library="onnxruntime",
    extra="onnxruntime",
    rank=60,
    # int8_gpu: the graph for GPUs, so that a machine without one can check it
    precisions={"fp32": "fp32", "int8": "int8", "fp16": "fp16", "int8_gpu": "int8_gpu"},
    open=Session,
    open_graph=_open_any,
    notes={"int8": "OpenVINO is faster"},
)
