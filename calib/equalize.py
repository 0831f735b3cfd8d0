"""Equal channels before quantisation: a change of units per channel that leaves the network's function alone.

An int8 activation has one step for all its channels, so a channel that stays ten times smaller than the largest is
told in ten times fewer levels. Multiplying a convolution's output channels and dividing the input channels of the next
one by the same factors changes nothing in exact arithmetic (Nagel et al., "Data-free quantization through weight
equalization and bias correction", ICCV 2019; with activation ranges: Xiao et al., "SmoothQuant", ICML 2023). It costs
nothing at run time. Residual adds tie the channels of all their inputs together: such a group of tensors takes one set
of factors, and ends where a convolution begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from .graph import Graph, float_tensors
from .histogram import Extremes
from .placement import LAYERS
from .ranges import observe

# These map each channel by itself, and a positive factor goes through them.
_THROUGH = frozenset({"Add", "AveragePool", "Identity", "MaxPool", "Relu", "Resize"})
_STRENGTH = (
    0.7  # measured best of 0, 0.3, 0.5, 0.7, 1: full equality moves all the spread into the next layer's weights
)
_LIMIT = 16.0  # on a factor: channels that are next to zero need no resolution


class ChannelMax(Extremes):
    """The largest magnitude of each channel of `(N, C, ...)` tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.amax: NDArray[np.float32] = np.zeros(0, np.float32)

    def update(self, values: NDArray[np.float32]) -> bool:
        if not super().update(values):
            return False
        axes = (0, *range(2, values.ndim))
        seen = np.maximum(values.max(axis=axes), -values.min(axis=axes))
        self.amax = np.maximum(self.amax, seen) if self.amax.size else seen
        return True


def equalize(
    model: onnx.ModelProto,
    batches: Iterable[NDArray[Any]],
    *,
    strength: float = _STRENGTH,
    progress: Callable[[int], None] | None = None,
    threads: int = 0,
) -> onnx.ModelProto:
    """The same network with its channels brought nearer to each other.

    Args:
        model: float32 graph with batch-norm folded; not changed.
        batches: calibration crops, as for `ranges.collect`.
        strength: 0 leaves everything as it is, 1 makes all channels of a tensor equally large.
        progress, threads: as for `ranges.collect`.

    Raises:
        CalibrationError: as for `ranges.collect`.
    """
    graph = Graph(model)
    groups = _groups(graph)
    advance = None if progress is None else lambda done, observers: progress(done)
    seen = observe(graph.model, batches, [t for g in groups for t in g], ChannelMax, advance=advance, threads=threads)
    scale: dict[str, NDArray[np.float64]] = {}
    for group in groups:
        # Each tensor has its own step, so a channel counts by its share of its tensor's largest one.
        share = np.max([seen[t].amax / max(float(seen[t].amax.max()), 1e-30) for t in group], axis=0)
        factors = np.where(share > 0, np.maximum(share, 1e-30) ** -strength, 1.0)
        # Powers of two change no float32 weight but by its exponent: the function is kept to the last bit.
        factors = np.exp2(np.rint(np.log2(np.clip(factors, 1.0, _LIMIT))))
        scale.update(dict.fromkeys(group, factors))
    _rescale(graph, scale)
    return graph.finish()


def _rescale(graph: Graph, scale: dict[str, NDArray[np.float64]]) -> None:
    """Multiply what writes into each tensor and divide what reads from it."""
    for node in graph.nodes:
        if node.op_type not in LAYERS:
            continue
        out, into = scale.get(node.output[0]), scale.get(node.input[0])
        if out is None and into is None:
            continue
        axis_out, axis_in = (0, 1) if node.op_type == "Conv" else (1, 0)
        weights = graph.array(node.input[1]).astype(np.float64)
        if out is not None:
            weights *= _along(out, axis_out)
            if len(node.input) > 2 and node.input[2]:
                bias = graph.array(node.input[2]) * out
                node.input[2] = graph.add_initializer(bias.astype(np.float32), f"{node.input[2]}/equal")
        if into is not None:
            weights /= _along(into, axis_in)
        node.input[1] = graph.add_initializer(weights.astype(np.float32), f"{node.input[1]}/equal")


def _along(factors: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    return factors.reshape([-1 if k == axis else 1 for k in range(4)])


def _groups(graph: Graph) -> list[list[str]]:
    """Sets of tensors whose channels must be scaled alike, where every writer and reader can take the factors."""
    shapes = float_tensors(graph.model)
    parent: dict[str, str] = {}

    def find(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    fixed: set[str] = set(graph.inputs) | set(graph.outputs) | graph.prelude()
    for node in graph.nodes:
        data = [i for i in graph.data_inputs(node) if i in shapes]
        if node.op_type in LAYERS and _plain(graph, node):
            find(data[0])
            find(node.output[0])
        elif node.op_type in _THROUGH and len(data) == (2 if node.op_type == "Add" else 1):
            for name in data:
                parent[find(name)] = find(node.output[0])
        else:
            fixed.update(data)
            fixed.update(node.output)
    members: dict[str, list[str]] = {}
    for name in list(parent):
        members.setdefault(find(name), []).append(name)
    return [group for group in members.values() if not fixed.intersection(group)]


def _plain(graph: Graph, node: onnx.NodeProto) -> bool:
    """An ungrouped layer with constant weights."""
    group = next((a.i for a in node.attribute if a.name == "group"), 1)
    return group == 1 and all(i in graph.initializers for i in node.input[1:] if i)
