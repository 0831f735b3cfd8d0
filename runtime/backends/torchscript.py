"""TorchScript: the reference network as PyTorch runs it, without its Python source."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError
from ..pose.heads import Outputs
from ..system.forks import OfOneProcess
from . import Backend

if TYPE_CHECKING:
    import torch


def load_module(model: bytes, device: str) -> torch.nn.Module:
    """The module of a TorchScript graph, on "cpu" or "cuda". Raises BackendError: PyTorch refused it."""
    import torch

    try:
        load: Callable[..., torch.nn.Module] = torch.jit.load
        return load(io.BytesIO(model), map_location=device).eval()
    except Exception as error:  # a damaged archive gives exceptions of every kind
        raise BackendError(f"PyTorch {torch.__version__} refused the TorchScript graph: {error}") from error


class Session(OfOneProcess):
    """One TorchScript module; see `backends.Session`."""

    _ran_in = 0  # the process that ran a network first: this one, or one that it was forked from

    def __init__(self, model: bytes, precision: str, threads: int | None = None) -> None:
        import torch

        super().__init__()
        if threads != 1 and Session._ran_in not in (0, os.getpid()):
            raise BackendError(
                f"PyTorch ran in process {Session._ran_in}, from which this one was forked, and its threads are not "
                "there: pass threads=1, open the first PoseEstimator after the fork, or start processes with "
                'multiprocessing.get_context("spawn")'
            )
        if threads is not None:
            torch.set_num_threads(threads)  # PyTorch has one pool for the whole process
        self._module = load_module(model, "cpu")

    def infer(self, crops: NDArray[np.uint8]) -> Outputs:
        import torch

        self.check_process()
        Session._ran_in = Session._ran_in or self._process
        try:
            with torch.inference_mode():
                found: object = self._module(torch.from_numpy(crops))
        except Exception as error:  # the module is a program
            raise BackendError(f"PyTorch {torch.__version__} failed while it ran: {error}") from error
        outputs = found if isinstance(found, tuple | list) else (found,)
        if not all(isinstance(output, torch.Tensor) for output in outputs):
            kinds = ", ".join(type(output).__name__ for output in outputs)
            raise BackendError(f"the TorchScript graph gives {kinds}, expected tensors")
        return tuple([output.float().numpy() for output in outputs])


BACKEND = Backend(
    name="torchscript",
    library="torch",
    extra="torch",
    rank=70,
    precisions={"fp32": "torchscript"},
    open=Session,
)
