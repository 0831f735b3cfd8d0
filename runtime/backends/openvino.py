"""OpenVINO on a CPU: the default there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..engines.cache import EngineMetadata, cached_graph
from ..errors import BackendError
from ..pose.heads import Outputs
from ..system.forks import OfOneProcess
from ..system.memory import trim_heap
from . import AsyncSession, Backend, Request

if TYPE_CHECKING:
    import openvino as ov


class Session(OfOneProcess, AsyncSession):
    """One compiled model with a dynamic batch; see `backends.AsyncSession`."""

    def __init__(self, compiled: ov.CompiledModel) -> None:
        super().__init__()
        self._compiled = compiled
        self._request = compiled.create_infer_request()
        self._outputs = range(len(compiled.outputs))

    def infer(self, crops: NDArray[np.uint8]) -> Outputs:
        self.check_process()
        try:
            self._request.set_input_tensor(_tensor(crops))
            self._request.infer(share_outputs=True)
        except RuntimeError as error:
            raise _failed(error) from error
        return tuple([self._request.get_output_tensor(i).data for i in self._outputs])

    def requests(self) -> list[Request]:
        self.check_process()
        # One more than run at a time, so that the next begins while its caller still looks at the last one's result.
        count = int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")) + 1
        return [_Request(self._compiled.create_infer_request(), self._outputs) for _ in range(count)]

    def export(self) -> memoryview:
        """The compiled graph as bytes, for the cache."""
        data: memoryview = self._compiled.export_model().getbuffer()
        return data


class _Request(OfOneProcess):
    def __init__(self, request: ov.InferRequest, outputs: range) -> None:
        super().__init__()
        self._request, self._outputs = request, outputs

    def start(self, crops: NDArray[np.uint8]) -> None:
        self.check_process()
        try:
            self._request.set_input_tensor(_tensor(crops))
            self._request.start_async()
        except RuntimeError as error:
            raise _failed(error) from error

    def wait(self) -> Outputs:
        self.check_process()
        try:
            self._request.wait()
        except RuntimeError as error:
            raise _failed(error) from error
        return tuple([self._request.get_output_tensor(i).data for i in self._outputs])

    def drop(self) -> None:
        if self.forked:
            return  # it runs in the parent
        # Not cancelled: OpenVINO 2026.4 would spoil other requests of the graph too (docs/decisions.md).
        with contextlib.suppress(RuntimeError):  # nobody waits for this result
            self._request.wait()


def _open(model: bytes, precision: str, threads: int | None = None) -> Session:
    return _compile(model, precision, _config(precision, threads, throughput=False))


def _open_throughput(model: bytes, precision: str, threads: int | None = None) -> Session:
    # several batches run side by side, each on few cores
    return _compile(model, precision, _config(precision, threads, throughput=True))


def _open_cached(
    digest: str, read: Callable[[], bytes], precision: str, threads: int | None, throughput: bool
) -> Session:
    """See `backends.OpenCached`. Both modes and all numbers of threads share one file."""
    version, config = BACKEND.library_version(), _config(precision, threads, throughput)
    return cached_graph(
        EngineMetadata(digest, precision, BACKEND.name, version, (_cpu()[0],), (), {}, {}),
        load=lambda data: _load(data, config),
        build=lambda: _compile(read(), precision, config),
        save=lambda session: session.export(),
    )


def _compile(model: bytes, precision: str, config: dict[str, Any]) -> Session:
    try:
        session = Session(_core().compile_model(_core().read_model(model), "CPU", config))
    except Exception as error:  # RuntimeError mostly; MemoryError for a graph that declares gigabytes
        raise BackendError(f"OpenVINO {BACKEND.library_version()} refused the {precision} graph: {error}") from error
    trim_heap()  # 75 MB of hrnet_w32 in int8
    return session


def _load(compiled: bytes | memoryview, config: dict[str, Any]) -> Session:
    try:
        return Session(_core().import_model(compiled, "CPU", config))
    except RuntimeError as error:
        raise BackendError(str(error)) from error


def _config(precision: str, threads: int | None, throughput: bool) -> dict[str, Any]:
    # Left to itself OpenVINO computes fp32 graphs in bf16 where the CPU can: that is another precision than the one
    # that was asked for and that passed the accuracy gate.
    hint = "bf16" if precision == "bf16" else "f32"
    config = {"PERFORMANCE_HINT": "THROUGHPUT" if throughput else "LATENCY", "INFERENCE_PRECISION_HINT": hint}
    if threads is None:
        return config
    # Who bounds the threads leaves processors to others. Pinned ones would all sit on the first processors, those of
    # two processes on the same: half the people per second (docs/decisions.md).
    return {**config, "INFERENCE_NUM_THREADS": str(threads), "ENABLE_CPU_PINNING": False}


@cache
def _core() -> ov.Core:
    import openvino as ov

    return ov.Core()


@cache
def _cpu() -> tuple[str, bool]:
    """What a compiled graph depends on beside the release, and whether this CPU computes in bfloat16."""
    try:
        can = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return " ".join([_core().get_property("CPU", "FULL_DEVICE_NAME"), *sorted(can)]), "BF16" in can
    except RuntimeError as error:
        raise BackendError(f"OpenVINO {BACKEND.library_version()} has no plugin for this CPU: {error}") from error


def _unavailable() -> str | None:
    try:
        _cpu()
    except BackendError as error:
        return str(error)
    return None


def _unsupported() -> dict[str, str]:
    return {} if _cpu()[1] else {"bf16": "this CPU has no bfloat16 arithmetic (AVX512_BF16 or AMX): use fp32"}


def _tensor(crops: NDArray[np.uint8]) -> ov.Tensor:
    import openvino as ov

    return ov.Tensor(crops, shared_memory=True)  # without a copy


def _failed(error: RuntimeError) -> BackendError:
    return BackendError(f"OpenVINO {BACKEND.library_version()} failed while it ran: {error}")


BACKEND = Backend(
    name="openvino",
    library="openvino",
    extra="openvino",
    rank=50,
    # bf16 is no graph of its own: the fp32 graph, computed in bfloat16 by CPUs that have it in hardware.
    precisions={"int8": "int8", "bf16": "fp32", "fp32": "fp32", "fp16": "fp16"},
    open=_open,
    open_throughput=_open_throughput,
    open_cached=_open_cached,
    unavailable=_unavailable,
    unsupported=_unsupported,
)
