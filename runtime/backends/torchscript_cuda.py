"""TorchScript on an NVIDIA GPU: the reference network there, and for the CUDA pipeline where TensorRT is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cuda.driver import Device, Stream, exclusive_capture
from ..cuda.library import missing as no_driver
from ..cuda.network import BUCKETS
from ..cuda.session import GpuSession
from ..errors import BackendError
from . import Backend
from .torchscript import load_module

if TYPE_CHECKING:
    import torch

_WARM_UP = 3  # TorchScript profiles its first runs and compiles in the next ones


def _unavailable() -> str | None:
    import torch

    reason = no_driver()
    if reason is None and not torch.cuda.is_available():
        return f"PyTorch {torch.__version__} has no CUDA: install it from the index for your CUDA, see pytorch.org"
    return reason


class TorchNetwork:
    """A module on the GPU, see `posert.runtime.cuda.network.Network`.

    PyTorch allocates while it runs, so its work is captured in a graph of PyTorch's own; the pipeline captures nothing.
    """

    capturable, largest = False, BUCKETS[-1]

    def __init__(self, module: torch.nn.Module) -> None:
        self._module = module
        self._crop: tuple[int, ...] = ()  # of the last `outputs`
        self._shapes: tuple[tuple[int, ...], ...] = ()

    def outputs(self, crop: tuple[int, ...]) -> tuple[tuple[tuple[int, ...], ...], np.dtype[Any]]:
        """See `Network.outputs`."""
        import torch

        if crop != self._crop:
            with torch.inference_mode():
                found = self._run(torch.zeros((1, *crop), dtype=torch.uint8, device="cuda"))
            self._crop, self._shapes = crop, tuple([tuple(output.shape[1:]) for output in found])
        return self._shapes, np.dtype(np.float32)

    def bind(self, batch: int, crops: int, outputs: Sequence[int], stream: Stream) -> Callable[[], None]:
        """See `Network.bind`."""
        import torch

        source = _tensor(crops, (batch, *self._crop), "|u1")
        targets = [_tensor(to, (batch, *shape), "<f4") for to, shape in zip(outputs, self._shapes, strict=True)]
        external: Callable[[int], torch.cuda.Stream] = torch.cuda.ExternalStream
        ours = external(stream.address)
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode():
            with torch.cuda.stream(ours):
                for _ in range(_WARM_UP):
                    self._run(source)
            stream.synchronize()
            # of this thread only: what other threads allocate meanwhile does not belong to this graph
            with exclusive_capture(), torch.cuda.graph(graph, stream=ours, capture_error_mode="thread_local"):
                for target, output in zip(targets, self._run(source), strict=True):
                    target.copy_(output)

        def run() -> None:
            with torch.cuda.stream(ours):
                graph.replay()

        return run

    def _run(self, crops: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = self._module(crops)
        return found if isinstance(found, tuple) else (found,)


def _open(model: bytes, precision: str, threads: int | None = None) -> GpuSession:
    """See `backends.Open`; CPU threads play no part."""
    import torch

    if reason := _unavailable():
        raise BackendError(reason)
    device, module = Device(), load_module(model, "cuda")
    # TF32 is another precision than the one that was asked for and that passed the accuracy gate.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    return GpuSession(TorchNetwork(module), device)


def _tensor(address: int, shape: tuple[int, ...], kind: str) -> torch.Tensor:
    """A tensor over memory of the device that the caller keeps."""
    import torch

    interface = {"data": (address, False), "shape": shape, "typestr": kind, "version": 2}
    tensor: torch.Tensor = torch.as_tensor(SimpleNamespace(__cuda_array_interface__=interface), device="cuda")
    return tensor


BACKEND = Backend(
    name="torchscript_cuda",
    library="torch",
    extra="torch",
    device="cuda",
    rank=40,
    precisions={"fp32": "torchscript"},
    open=_open,
    unavailable=_unavailable,
)
