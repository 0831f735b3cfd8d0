"""OpenVINO on a CPU: the default there."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..engines.cache import cached_graph
from ..engines.sidecar import EngineMetadata
from ..errors import BackendError
from ..pose.heads import Outputs
from ..system.forks import OfOneProcess
from ..system.memory import trim_heap
from . import AsyncSession, Backend, GraphRequest, Request, Tensor

if TYPE_CHECKING:
    import openvino as ov

# OpenVINO reports each import to Google Analytics, unless this package cannot be imported. Who imported it before may.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

# Bytes of an array, and of all, for one crop or frame, or as many as the graph insists on, which may be any number.
# hrnet_w48 at 384x288 has 7 MB and 0.6 GB.
_LARGEST, _ALL = 1 << 29, 1 << 32


class Session(OfOneProcess, AsyncSession):
    """One compiled model with a dynamic batch; see `backends.AsyncSession`."""

    def __init__(self, compiled: ov.CompiledModel) -> None:
        super().__init__()
        _note_end(self)
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
        return [_Request(self._compiled.create_infer_request(), self._outputs) for _ in range(_count(self._compiled))]

    def export(self) -> memoryview:
        """The compiled graph as bytes, for the cache."""
        data: memoryview = self._compiled.export_model().getbuffer()
        return data


class _Run(OfOneProcess):
    """A run that was started."""

    def __init__(self, request: ov.InferRequest, outputs: range) -> None:
        super().__init__()
        self._request, self._outputs = request, outputs

    def wait(self) -> tuple[NDArray[Any], ...]:
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


class _Request(_Run):
    """See `backends.Request`."""

    def start(self, crops: NDArray[np.uint8]) -> None:
        self.check_process()
        try:
            self._request.set_input_tensor(_tensor(crops))
            self._request.start_async()
        except RuntimeError as error:
            raise _failed(error) from error


class _GraphRequest(_Run):
    """See `backends.GraphRequest`."""

    def start(self, inputs: Sequence[NDArray[Any]]) -> None:
        self.check_process()
        try:
            for i, array in enumerate(inputs):
                self._request.set_input_tensor(i, _tensor(array))
            self._request.start_async()
        except RuntimeError as error:
            raise _failed(error) from error


class Graph:
    """A compiled graph of any inputs and outputs, see `backends.GraphSession`."""

    def __init__(self, model: ov.Model, compiled: ov.CompiledModel) -> None:
        _note_end(self)
        self._compiled = compiled
        # Of the graph that was read: the compiled one may have other names.
        self.inputs, self.outputs = tuple(map(_described, model.inputs)), tuple(map(_described, model.outputs))
        # where the ONNX reader puts `metadata_props`
        held = model.get_rt_info("framework").value if model.has_rt_info("framework") else {}
        self.metadata: Mapping[str, str] = {key: str(value) for key, value in held.items()}

    def requests(self) -> list[GraphRequest]:
        outputs = range(len(self.outputs))
        count = _count(self._compiled)
        return [_GraphRequest(self._compiled.create_infer_request(), outputs) for _ in range(count)]


_closed_in: set[int] = set()
"""Processes that closed a network. OpenVINO keeps its threads for the next one, and takes them for the next one in a
child made by os.fork() too, where they are not there: it would wait for ever."""


def _note_end(session: Session | Graph) -> None:
    weakref.finalize(session, _closed_in.add, os.getpid()).atexit = False


def _check_fork() -> None:
    """Raise BackendError where a new network would wait for threads that are not there."""
    if others := _closed_in - {os.getpid()}:
        raise BackendError(
            f"this process was forked from process {min(others)}, which had closed a network in OpenVINO, and threads "
            "that OpenVINO keeps are not there: keep that PoseEstimator open in the parent, open the first one after "
            'the fork, or start processes with multiprocessing.get_context("spawn")'
        )


def _count(compiled: ov.CompiledModel) -> int:
    # One more than run at a time, so that the next begins while its caller still looks at the last one's result.
    return int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")) + 1


def _described(port: ov.Output) -> Tensor:
    sizes = port.get_partial_shape()
    shape = () if sizes.rank.is_dynamic else tuple([s.get_length() if s.is_static else None for s in sizes])
    return Tensor(port.get_any_name(), shape, port.get_element_type().to_dtype().name)


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
        session = Session(_core().compile_model(_read(model), "CPU", config))
    except Exception as error:  # RuntimeError mostly; MemoryError for a graph that declares gigabytes
        raise BackendError(f"OpenVINO {BACKEND.library_version()} refused the {precision} graph: {error}") from error
    trim_heap()  # 75 MB of hrnet_w32 in int8
    return session


def _open_any(model: Path | bytes, threads: int | None = None, throughput: bool = False) -> Graph:
    """See `backends.OpenGraph`."""
    try:
        graph = _read(model)
        compiled = _core().compile_model(graph, "CPU", _config("fp32", threads, throughput))
        trim_heap()
        return Graph(graph, compiled)
    except Exception as error:  # as in `_compile`
        raise BackendError(f"OpenVINO {BACKEND.library_version()} refused the detector's graph: {error}") from error


def _read(model: Path | bytes) -> ov.Model:
    """A graph, not compiled yet: that computes what is constant. Raises ValueError: its arrays are too large."""
    _check_fork()
    graph = _core().read_model(model)
    one = graph.clone()
    shapes = {port: port.get_partial_shape() for port in one.inputs}
    for shape in shapes.values():
        if shape.rank.is_static and len(shape) > 0 and shape[0].is_dynamic:
            shape[0] = 1
    one.reshape(shapes)
    total = 0
    for node in one.get_ops():
        for output in node.outputs() if node.get_type_name() != "Constant" else ():
            sizes = output.get_partial_shape()
            size = math.prod(sizes.to_shape()) * output.get_element_type().size if sizes.is_static else 0
            total += size
            if size > _LARGEST or total > _ALL:
                raise ValueError(
                    f"its {node.get_type_name()} gives {sizes}, {size / 1e9:.1f} GB of {total / 1e9:.1f} GB so far; "
                    f"expected at most {_LARGEST / 1e9:.1f} GB in an array and {_ALL / 1e9:.1f} GB in all"
                )
    return graph


def _load(compiled: bytes | memoryview, config: dict[str, Any]) -> Session:
    _check_fork()
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


def _tensor(array: NDArray[Any]) -> ov.Tensor:
    import openvino as ov

    return ov.Tensor(array, shared_memory=True)  # without a copy


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
    open_graph=_open_any,
    unavailable=_unavailable,
    unsupported=_unsupported,
)
