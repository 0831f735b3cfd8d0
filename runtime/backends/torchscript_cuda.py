"""TorchScript on an NVIDIA GPU: the reference network there, and for the CUDA pipeline where TensorRT is missing."""

from __future__ import annotations

import io
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from ..cuda.driver import Device, Stream, exclusive_capture
from ..cuda.library import missing as no_driver
from ..cuda.network import GpuSession, check_one_output
from ..errors import BackendError

PRECISIONS = {"fp32": "torchscript"}
LARGEST = 32
_WARM_UP = 3  # TorchScript profiles its first runs and compiles in the next ones


def missing() -> str | None:
    """See `backends.Backend.missing`."""
    reason = no_driver()
    if reason is None and not torch.cuda.is_available():
        return f"PyTorch {torch.__version__} has no CUDA: install it from the index for your CUDA, see pytorch.org"
    return reason


class TorchNetwork:
    """A module on the GPU, see `posert.runtime.cuda.network.Network`.

    PyTorch allocates while it runs, so a graph that holds it is PyTorch's own, of which the pipeline knows nothing.
    """

    capturable, largest = False, LARGEST

    def __init__(self, module: torch.nn.Module) -> None:
        self._module = module
        self._crop: tuple[int, ...] = ()
        self._heatmap: tuple[int, ...] = ()

    def output(self, crop: tuple[int, ...]) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """See `Network.output`."""
        if crop != self._crop:
            with torch.inference_mode():
                maps = self._module(torch.zeros((1, *crop), dtype=torch.uint8, device="cuda"))
            check_one_output(1 if isinstance(maps, torch.Tensor) else len(maps))
            self._crop, self._heatmap = crop, tuple(maps.shape[1:])
        return self._heatmap, np.dtype(np.float32)

    def bind(self, batch: int, crops: int, heatmaps: int, stream: Stream) -> Callable[[], None]:
        """See `Network.bind`."""
        source, target = _tensor(crops, (batch, *self._crop), "|u1"), _tensor(heatmaps, (batch, *self._heatmap), "<f4")
        external: Callable[[int], torch.cuda.Stream] = torch.cuda.ExternalStream
        ours = external(stream.address)
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode():
            with torch.cuda.stream(ours):
                for _ in range(_WARM_UP):
                    self._module(source)
            stream.synchronize()
            # of this thread only: what others allocate meanwhile is no business of this graph
            with exclusive_capture(), torch.cuda.graph(graph, stream=ours, capture_error_mode="thread_local"):
                target.copy_(self._module(source))

        def run() -> None:
            with torch.cuda.stream(ours):
                graph.replay()

        return run


class Session(GpuSession):
    """One TorchScript module; see `backends.Session`."""

    def __init__(self, model: bytes, precision: str, threads: int | None = None) -> None:
        reason = missing()
        if reason is not None:
            raise BackendError(reason)
        device = Device()
        try:
            load: Callable[..., torch.nn.Module] = torch.jit.load
            module = load(io.BytesIO(model), map_location="cuda").eval()
        except RuntimeError as error:
            raise BackendError(f"PyTorch {torch.__version__} refused the TorchScript graph: {error}") from error
        # TF32 is another precision than the one that was asked for and gated.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        super().__init__(device, TorchNetwork(module))


def _tensor(address: int, shape: tuple[int, ...], kind: str) -> torch.Tensor:
    """A tensor over memory of the device that somebody else keeps."""
    interface = {"data": (address, False), "shape": shape, "typestr": kind, "version": 2}
    tensor: torch.Tensor = torch.as_tensor(SimpleNamespace(__cuda_array_interface__=interface), device="cuda")
    return tensor
