"""ONNX Runtime on an NVIDIA GPU: the network where TensorRT is missing, without PyTorch.

pip install onnxruntime-gpu nvidia-cudnn-cu13 nvidia-cublas    # or PyTorch, which brings the libraries
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..cuda.driver import Device, Stream
from ..cuda.library import missing as no_driver
from ..cuda.network import BUCKETS
from ..cuda.session import GpuSession
from ..errors import BackendError
from . import Backend
from .onnxruntime import OrtGraph, open_graph

_PROVIDER, _DEVICE = "CUDAExecutionProvider", "cuda"


def _unavailable() -> str | None:
    import onnxruntime as ort

    reason = no_driver()
    if reason is None and _PROVIDER not in ort.get_available_providers():
        return f"ONNX Runtime {ort.__version__} has no CUDA: pip install onnxruntime-gpu, in place of onnxruntime"
    return reason


class OrtNetwork:
    """A graph on the GPU, see `posert.runtime.cuda.network.Network`. Each stream has a session of its own."""

    capturable, largest = False, BUCKETS[-1]

    def __init__(self, model: bytes, precision: str) -> None:
        self._model, self._precision = model, precision
        # A session has the weights and its own workspace, so it goes with its stream.
        self._sessions: WeakKeyDictionary[Stream, Any] = WeakKeyDictionary()
        self._crop: tuple[int, ...] = ()
        self._shapes: tuple[tuple[int, ...], ...] = ()

    def outputs(self, crop: tuple[int, ...]) -> tuple[tuple[tuple[int, ...], ...], np.dtype[Any]]:
        """See `Network.outputs`."""
        if crop != self._crop:
            session = self._open({})
            found = session.run(None, {session.get_inputs()[0].name: np.zeros((1, *crop), np.uint8)})
            self._crop, self._shapes = crop, tuple([output.shape[1:] for output in found])
        return self._shapes, np.dtype(np.float32)

    def bind(self, batch: int, crops: int, outputs: Sequence[int], stream: Stream) -> Callable[[], None]:
        """See `Network.bind`."""
        import onnxruntime as ort

        if stream not in self._sessions:
            self._sessions[stream] = self._open({"user_compute_stream": str(stream.address)})
        session = self._sessions[stream]
        binding = session.io_binding()
        binding.bind_input(session.get_inputs()[0].name, _DEVICE, 0, np.uint8, (batch, *self._crop), crops)
        for output, shape, address in zip(session.get_outputs(), self._shapes, outputs, strict=True):
            binding.bind_output(output.name, _DEVICE, 0, np.float32, (batch, *shape), address)
        options = ort.RunOptions()
        # what follows in the stream waits by itself
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        return lambda: session.run_with_iobinding(binding, options)

    def _open(self, stream: dict[str, str]) -> Any:
        return _session(self._model, self._precision, stream)


def _session(model: Path | bytes, precision: str, stream: dict[str, str]) -> Any:
    import onnxruntime as ort

    provider = (_PROVIDER, {"use_tf32": "0", "cudnn_conv_algo_search": "EXHAUSTIVE", **stream})
    session = open_graph(model, precision, ort.SessionOptions(), provider)
    if _PROVIDER not in session.get_providers():
        raise BackendError(
            f"ONNX Runtime {ort.__version__} could not load its CUDA provider (see its own message above): "
            "cuDNN 9 and cuBLAS have to be found, as the wheels of PyTorch or nvidia-cudnn-cu13 bring them"
        )
    return session


def _prepare() -> None:
    """Raises BackendError: this machine cannot run it."""
    import onnxruntime as ort

    if reason := _unavailable():
        raise BackendError(reason)
    if hasattr(ort, "preload_dlls"):  # which older releases lack
        ort.preload_dlls(directory="")  # the libraries of the nvidia-* wheels


def _open(model: bytes, precision: str, threads: int | None = None) -> GpuSession:
    """See `backends.Open`; CPU threads play no part."""
    _prepare()
    return GpuSession(OrtNetwork(model, precision), Device())


def _open_any(model: Path | bytes, threads: int | None = None, throughput: bool = False) -> OrtGraph:
    """See `backends.OpenGraph`; inputs and outputs lie in the host's memory."""
    _prepare()
    return OrtGraph(_session(model, "detector's", {}))


BACKEND = Backend(
    name="onnxruntime_cuda",
    library="onnxruntime",
    extra="onnxruntime-cuda",
    device="cuda",
    rank=30,
    precisions={"fp16": "fp16", "fp32": "fp32"},
    open=_open,
    open_graph=_open_any,
    unavailable=_unavailable,
)
