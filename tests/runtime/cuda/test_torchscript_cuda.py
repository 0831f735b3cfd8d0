"""How PyTorch is asked to capture a network, with stand-ins for its CUDA: the module itself runs on the CPU."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch

from posert.runtime.backends import torchscript_cuda
from posert.runtime.cuda.driver import Device, Memory, Stream


class Graph:
    """In place of `torch.cuda.CUDAGraph`: how often it was replayed."""

    replays = 0

    def replay(self) -> None:
        Graph.replays += 1


def on_cpu(address: int, shape: tuple[int, ...], kind: str) -> torch.Tensor:
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    return torch.from_numpy(np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address)).view(kind)).view(shape)


def test_a_capture_is_of_this_thread_and_exclusive(fake_gpu: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    @contextmanager
    def graph(made: Graph, **options: Any) -> Iterator[None]:
        asked.append({**options, "collects": gc.isenabled()})
        yield

    monkeypatch.setattr(torchscript_cuda, "_tensor", on_cpu)
    for name, stand_in in {
        "ExternalStream": lambda address: address,
        "stream": lambda stream: nullcontext(),
        "CUDAGraph": Graph,
        "graph": graph,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)

    class Sum(torch.nn.Module):
        def forward(self, crops: torch.Tensor) -> torch.Tensor:
            return crops.to(torch.float32).sum(dim=(1, 2, 3)).reshape(-1, 1, 1, 1)

    network = torchscript_cuda.TorchNetwork(Sum())
    network._crop, network._shapes = (2, 2, 3), ((1, 1, 1),)
    with Device().active():
        stream, crops, heatmaps = Stream(), Memory(2 * 12), Memory(2 * 4)
        ctypes.memset(crops.address, 3, 24)
        run = network.bind(2, crops.address, [heatmaps.address], stream)
        run()
    assert asked == [{"stream": stream.address, "capture_error_mode": "thread_local", "collects": False}]
    assert Graph.replays == 1 and gc.isenabled()
    assert ctypes.cast(heatmaps.address, ctypes.POINTER(ctypes.c_float))[:2] == [36.0, 36.0]
