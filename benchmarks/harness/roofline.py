"""How near a network comes to what a GPU can do: its multiplications and its traffic against measured ceilings.

The traffic is the least that a network without one big kernel can have: each convolution reads its input and writes its
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

from ...calib.macs import of_node, shapes_of_one
from ...runtime.bundle.archive import Bundle
from ...runtime.errors import InputError

BYTES = {"fp32": 4, "fp16": 2, "int8": 1, "int8_gpu": 1}
_SIDE, _COPY = 8192, 1 << 28  # of the matrices, and bytes


@dataclass(frozen=True)
class Work:
    """What a network does for one person.

    Attributes:
        flops: 2 for each multiply-add of its convolutions.
        activations: values that convolutions read and write.
        weights: values, read once for a batch.
    """

    flops: int
    activations: int
    weights: int

    def traffic(self, batch: int, precision: str) -> int:
        """Bytes of a batch."""
        return (batch * self.activations + self.weights) * BYTES[precision]


@dataclass(frozen=True)
class Ceilings:
    """What a GPU was seen to do: bytes per second, and operations per second by precision where it was measured."""

    bandwidth: float
    flops: dict[str, float]


@dataclass(frozen=True)
class Place:
    """Where a run lies under the roof.

    Attributes:
        flops, bandwidth: per second, achieved.
        of_flops, of_bandwidth: shares of the ceilings; None where there is none.
        limit: "arithmetic" or "memory", whichever would take longer at its ceiling.
        share: of the roof: the time that the limit allows over the time it took.
    """

    flops: float
    bandwidth: float
    of_flops: float | None
    of_bandwidth: float
    limit: str
    share: float


def work_of(bundle: Bundle) -> Work:
    """Counted on the fp32 graph.

    Raises:
        InputError: the bundle holds none, or one whose sizes are not static.
    """
    if "fp32" not in bundle.artifacts:
        raise InputError(f"{bundle.name} holds no fp32 graph to count on: posert build --precision fp32")
    model = onnx.load_from_string(bundle.read(bundle.artifacts["fp32"]))
    shapes = shapes_of_one(model)
    flops = activations = parameters = 0
    for node in model.graph.node:
        if node.op_type not in ("Conv", "ConvTranspose"):
            continue
        count = of_node(node, shapes)
        if count is None:
            raise InputError(f"{bundle.name}: the size of {node.name} is not static")
        before, weights, after = (shapes[name] for name in (node.input[0], node.input[1], node.output[0]))
        flops += 2 * count
        activations += math.prod(before) + math.prod(after)
        parameters += math.prod(weights)
    return Work(flops, activations, parameters)


def place(work: Work, batch: int, precision: str, ms: float, ceilings: Ceilings) -> Place:
    """Of a run of `batch` people that took so long."""
    flops, traffic, seconds = work.flops * batch, work.traffic(batch, precision), ms * 1e-3
    peak = ceilings.flops.get(precision.removesuffix("_gpu"))
    arithmetic, memory = flops / peak if peak else 0.0, traffic / ceilings.bandwidth
    return Place(
        flops / seconds,
        traffic / seconds,
        arithmetic / seconds if peak else None,
        memory / seconds,
        "arithmetic" if arithmetic > memory else "memory",
        max(arithmetic, memory) / seconds,
    )


def ceilings() -> Ceilings:
    """Measured with PyTorch on the GPU: a large copy, and products of large matrices.

    Of noise, as in a network: with equal numbers a GPU takes less power, and its clock stays higher.
    """
    source = torch.empty(_COPY, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    bandwidth = 2 * _COPY / _seconds(partial(target.copy_, source))
    operations, flops = 2.0 * _SIDE**3, dict[str, float]()
    torch.backends.cuda.matmul.allow_tf32 = False
    for precision, dtype in (("fp32", torch.float32), ("fp16", torch.float16)):
        a = torch.randn(_SIDE, _SIDE, dtype=dtype, device="cuda")
        flops[precision] = operations / _seconds(partial(torch.matmul, a, a))
    a = torch.randint(-128, 128, (_SIDE, _SIDE), dtype=torch.int8, device="cuda")
    with contextlib.suppress(RuntimeError):  # a GPU or a release without it: its rows have no share of arithmetic
        flops["int8"] = operations / _seconds(partial(torch._int_mm, a, a.t()))
    return Ceilings(bandwidth, flops)


def _seconds(work: Callable[[], object], rounds: int = 10) -> float:
    """The best of some runs, on the GPU's clock."""
    best = math.inf
    for _ in range(rounds + 1):  # the first is to warm up; it is never the best
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work()
        end.record()
        end.synchronize()
        best = min(best, start.elapsed_time(end) * 1e-3)
    return best
