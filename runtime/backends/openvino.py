"""OpenVINO on a CPU: the default there."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from ..engines.cache import Engine, Made, read_engine, write_engine
from ..errors import BackendError, InputError
from ..system.files import cache_folder
from ..system.memory import trim_heap
from . import Request

log = logging.getLogger("posert")

_CORE = ov.Core()
try:
    _CAN = _CORE.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    # What a compiled graph depends on beside the release: it is not run on another CPU.
    _CPU = " ".join([_CORE.get_property("CPU", "FULL_DEVICE_NAME"), *sorted(_CAN)])
except RuntimeError as error:
    raise ImportError(f"OpenVINO {ov.__version__} has no plugin for this CPU: {error}") from error
_MOST_KEPT = 16  # compiled graphs in the cache; one is as large as the graph, 30 MB for hrnet_w32 in int8

# bf16 is no graph of its own: the fp32 graph, computed in bfloat16 by CPUs that have it in hardware.
PRECISIONS = {"int8": "int8", **({"bf16": "fp32"} if "BF16" in _CAN else {}), "fp32": "fp32", "fp16": "fp16"}
LACKING = {} if "BF16" in _CAN else {"bf16": "this CPU has no bfloat16 arithmetic (AVX512_BF16 or AMX): use fp32"}


class Session:
    """One compiled model with a dynamic batch; see `backends.AsyncSession`."""

    _HINT = "LATENCY"

    def __init__(self, model: bytes, precision: str, threads: int | None = None) -> None:
        try:
            self._take(_CORE.compile_model(_CORE.read_model(model), "CPU", self._config(precision, threads)))
        except RuntimeError as error:
            raise BackendError(f"OpenVINO {ov.__version__} refused the {precision} graph: {error}") from error
        trim_heap()  # 75 MB of hrnet_w32 in int8

    @classmethod
    def kept(cls, digest: str, read: Callable[[], bytes], precision: str, threads: int | None = None) -> Session:
        """The graph with this sha256, from the cache of compiled graphs where it is there, else put there.

        Both modes and all numbers of threads share one file. Compiling takes seconds, this a fraction of one.
        """
        made = Made(digest, precision, "openvino", ov.__version__, (_CPU,), (), {}, {})
        path = cache_folder() / made.file_name
        if path.exists():
            try:
                engine = read_engine(path)
                if engine.made != made:
                    raise BackendError(f"{path} is of another graph, CPU or release")
                session = cls.__new__(cls)
                session._take(_CORE.import_model(engine.plan, "CPU", cls._config(precision, threads)))
            except (BackendError, RuntimeError) as error:
                log.warning("%s; it is made anew", error)
            else:
                with contextlib.suppress(OSError):
                    os.utime(path)  # used last
                return session
        session = cls(read(), precision, threads)
        try:
            write_engine(path, Engine(made, session._compiled.export_model().getbuffer()))
            _prune(path.parent)
        except (InputError, OSError) as error:
            log.info("the compiled graph is not kept: %s", error)
        return session

    @classmethod
    def _config(cls, precision: str, threads: int | None) -> dict[str, Any]:
        # Left to itself OpenVINO computes fp32 graphs in bf16 where the CPU can: that is another precision than the
        # one that was asked for and gated.
        hint = "bf16" if precision == "bf16" else "f32"
        config = {"PERFORMANCE_HINT": cls._HINT, "INFERENCE_PRECISION_HINT": hint}
        if threads is None:
            return config
        # Who bounds the threads leaves processors to others. Pinned ones would all sit on the first processors, those
        # of two processes on the same: half the people per second (docs/decisions.md).
        return {**config, "INFERENCE_NUM_THREADS": str(threads), "ENABLE_CPU_PINNING": False}

    def _take(self, compiled: ov.CompiledModel) -> None:
        self._compiled = compiled
        self._request = compiled.create_infer_request()

    def infer(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        try:
            self._request.set_input_tensor(ov.Tensor(crops, shared_memory=True))
            self._request.infer(share_outputs=True)
        except RuntimeError as error:
            raise _failed(error) from error
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
        try:
            self._request.set_input_tensor(ov.Tensor(crops, shared_memory=True))
            self._request.start_async()
        except RuntimeError as error:
            raise _failed(error) from error

    def wait(self) -> NDArray[np.float32]:
        try:
            self._request.wait()
        except RuntimeError as error:
            raise _failed(error) from error
        heatmaps: NDArray[np.float32] = self._request.get_output_tensor().data
        return heatmaps

    def drop(self) -> None:
        # Not cancelled: OpenVINO 2026.4 would spoil other requests of the graph too (docs/decisions.md).
        with contextlib.suppress(RuntimeError):  # what went wrong is nobody's any more
            self._request.wait()


def _failed(error: RuntimeError) -> BackendError:
    return BackendError(f"OpenVINO {ov.__version__} failed while it ran: {error}")


def _prune(folder: Path) -> None:
    """Leave the compiled graphs that were used last."""
    files = sorted(folder.glob("*-openvino-*.engine"), key=lambda path: -path.stat().st_mtime)
    for path in files[_MOST_KEPT:]:
        path.unlink(missing_ok=True)
