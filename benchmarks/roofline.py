"""How near a network comes to what a GPU can do: its arithmetic and traffic against measured ceilings.

The traffic is the least possible without one kernel for all layers: each convolution reads its input and writes its
output once, weights are read once, and everything else is fused into convolutions. (Williams, Waterman, Patterson:
Roofline, CACM 2009.)
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import onnx
import torch

from ..calib.macs import of_node, shapes_of_one
from ..runtime.bundle.archive import Bundle
from ..runtime.errors import InputError

BYTES = {"fp32": 4, "fp16": 2, "int8": 1, "int8_gpu": 1}
_SIDE, _COPY = 8192, 1 << 28  # of the matrices, and bytes


@dataclass(frozen=True)
class Work:
    """The work of a network for one person: operations, two for each multiply-add of its convolutions; values that they
    read and write; and weights, which are read once for a batch."""

    flops: int
    activations: int
    weights: int

    def traffic(self, batch: int, precision: str) -> int:
        """Bytes of a batch."""
        return (batch * self.activations + self.weights) * BYTES[precision]


@dataclass(frozen=True)
class Ceilings:
    """Measured on a GPU: bytes per second, and operations per second by precision."""

    bandwidth: float
    flops: dict[str, float]


@dataclass(frozen=True)
class Place:
    """Where a run is under the roof: operations and bytes per second, their shares of the ceilings, the limit
    ("arithmetic" or "memory", whichever takes longer at its ceiling), and the share of the roof: the time that the
    limit allows, over the time it took."""

    flops: float
    bandwidth: float
    of_flops: float | None
    of_bandwidth: float
    limit: str
    share: float


def work_of(bundle: Bundle) -> Work:
    """Counted on the fp32 graph. Raises InputError: the bundle holds none, or one whose sizes are not static."""
    if "fp32" not in bundle.artifacts:
        raise InputError(f"{bundle.name} holds no fp32 graph to count on: posert build --precision fp32")
    model = onnx.load_from_string(bundle.read(bundle.artifacts["fp32"]))
    shapes = shapes_of_one(model)
    work = Work(0, 0, 0)
    for node in model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            macs = of_node(node, shapes)
            if macs is None:
                raise InputError(f"{bundle.name}: the size of {node.name} is not static")
            before, kernel, after = (math.prod(shapes[name]) for name in (*node.input[:2], node.output[0]))
            work = Work(work.flops + 2 * macs, work.activations + before + after, work.weights + kernel)
    return work


def place(work: Work, batch: int, precision: str, ms: float, ceilings: Ceilings) -> Place:
    """Of a run of `batch` people that took `ms`."""
    flops, traffic, seconds = work.flops * batch, work.traffic(batch, precision), ms * 1e-3
    peak = ceilings.flops.get(precision.removesuffix("_gpu"))
    arithmetic, memory = flops / peak if peak else 0.0, traffic / ceilings.bandwidth
    limit, share = "arithmetic" if arithmetic > memory else "memory", max(arithmetic, memory) / seconds
    of_flops = arithmetic / seconds if peak else None
    return Place(flops / seconds, traffic / seconds, of_flops, memory / seconds, limit, share)


def ceilings() -> Ceilings:
    """Measured with PyTorch: a large copy, and products of large matrices.

    The matrices hold noise, as in a network: with equal numbers a GPU takes less power and clocks higher.
    """
    source = torch.empty(_COPY, dtype=torch.uint8, device="cuda")
    bandwidth = 2 * _COPY / _seconds(partial(torch.empty_like(source).copy_, source))
    operations, flops = 2.0 * _SIDE**3, dict[str, float]()
    torch.backends.cuda.matmul.allow_tf32 = False
    for precision, dtype in (("fp32", torch.float32), ("fp16", torch.float16)):
        a = torch.randn(_SIDE, _SIDE, dtype=dtype, device="cuda")
        flops[precision] = operations / _seconds(partial(torch.matmul, a, a))
    a = torch.randint(-128, 128, (_SIDE, _SIDE), dtype=torch.int8, device="cuda")
    with contextlib.suppress(RuntimeError):  # without it, int8 rows have no share of arithmetic
        flops["int8"] = operations / _seconds(partial(torch._int_mm, a, a.t()))
    return Ceilings(bandwidth, flops)


def _seconds(work: Callable[[], object], rounds: int = 10) -> float:
    """Of the best run, on the GPU's clock."""
    best = math.inf
    for _ in range(rounds + 1):  # the first one warms up
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work()
        end.record()
        end.synchronize()
        best = min(best, start.elapsed_time(end) * 1e-3)
    return best
