"""INT8 by QuantizeLinear/DequantizeLinear pairs, placed where TensorRT, OpenVINO and ONNX Runtime fuse them.

Two steps: `place` decides from the graph alone what is quantised, `quantize` writes it with those tensors' ranges.
The rules are those of NVIDIA's documentation for explicitly quantised networks:

1. The inputs of Conv and ConvTranspose are quantised, not their outputs; one pair per tensor, shared by its readers. So
   Conv-ReLU stays whole, with the pair behind the ReLU, and the graph's output (the heatmap) is never quantised.
2. Weights are int8, symmetric, one scale per output channel. The bias stays float.
3. A residual Add whose one branch is a convolution keeps that branch float and quantises the other, the skip: then
   Conv+Add+ReLU is one kernel that reads and writes int8. Of two convolutions the shallower counts as the skip. Every
   other Add reads the int8 copy of an input that has one (measured: saves 15 kernels of hrnet_w32 in OpenVINO, 4 %).
4. Operators that only move values (MaxPool, nearest Resize, Concat, ...) and whose result is quantised are quantised
   before, too, with the same scale, and so run in int8 without a rescale.
5. Convolutions with very few channels stay float: int8 kernels pad them and lose.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from ..runtime.errors import CalibrationError
from ..runtime.registry import unknown_name
from .fp16 import to_fp16
from .graph import QDQ, Graph, attribute, float_tensors
from .ranges import Range

_LAYERS = frozenset({"Conv", "ConvTranspose"})
_SMALLEST_SCALE = float(np.finfo(np.float16).smallest_subnormal)
_FEW = 16  # channels


@dataclass(frozen=True)
class Placement:
    """What will be quantised.

    Attributes:
        layers: names of the Conv and ConvTranspose nodes that compute in int8.
        edges: (node name, input index) of every float input that gets a Q/DQ pair.
        groups: sets of tensors that share one scale; together they are all quantised activations.
        left: names of the layers that stay in float, each with the reason.
        int8_macs: share of the multiply-accumulates that are in int8, 0 to 1.
    """

    layers: tuple[str, ...]
    edges: tuple[tuple[str, int], ...]
    groups: tuple[tuple[str, ...], ...]
    left: dict[str, str]
    int8_macs: float

    @property
    def tensors(self) -> list[str]:
        """The tensors whose ranges `quantize` needs."""
        return [name for group in self.groups for name in group]


@dataclass(frozen=True)
class Quantized:
    """An INT8 graph and what was decided to make it."""

    model: onnx.ModelProto
    placement: Placement


def place(model: onnx.ModelProto, float_nodes: Collection[str] = ()) -> Placement:
    """Decide where Q/DQ pairs go.

    Args:
        model: float32 graph with batch-norm folded.
        float_nodes: names of nodes to leave in float: layers, or Adds that shall read floats only.

    Raises:
        CalibrationError: the graph is quantised already, is older than opset 13, has no layer to quantise, or does not
            have a node that `float_nodes` names.
    """
    return _place(Graph(model), float_nodes)


def quantize(
    model: onnx.ModelProto,
    ranges: Mapping[str, Range],
    *,
    float_nodes: Collection[str] = (),
    unsigned: bool = False,
    rest: Literal["float32", "float16"] = "float32",
) -> Quantized:
    """Write the Q/DQ pairs that `place` decides on.

    Args:
        model: float32 graph with batch-norm folded; not changed.
        ranges: of at least `place(model, float_nodes).tensors`.
        float_nodes: as for `place`.
        unsigned: the twin for CPUs: uint8 for activations that cannot be negative by construction (behind a ReLU),
            which is one bit more and what x86 multiplies fastest. TensorRT takes only the signed one.
        rest: type of all that is not int8; "float16" (GPUs) needs opset 19 or newer.

    Raises:
        CalibrationError: as for `place`; also for a missing or impossible range, and for `rest="float16"` with an older
            opset or together with `unsigned`.
    """
    if rest == "float16" and unsigned:
        raise CalibrationError(
            "unsigned activations are for CPUs and a float16 rest is for GPUs; ask for one of the two"
        )
    graph = Graph(model)
    placement = _place(graph, float_nodes)
    if rest == "float16" and graph.opset < 19:
        raise CalibrationError(
            f"a float16 rest needs opset 19 or newer for its scales, and the graph has opset {graph.opset}; export "
            'with a newer opset or ask for rest="float32"'
        )
    _Writer(graph, placement, ranges, unsigned, half=rest == "float16").run()
    result = graph.finish()
    return Quantized(to_fp16(result) if rest == "float16" else result, placement)


def _place(graph: Graph, float_nodes: Collection[str]) -> Placement:
    present = sorted({n.op_type for n in graph.nodes} & QDQ)
    if present:
        raise CalibrationError(f"the graph is quantised already (it has {', '.join(present)}); give the float32 graph")
    if graph.opset < 13:
        raise CalibrationError(
            f"int8 scales per channel need opset 13 or newer, and the graph has opset {graph.opset}; export it anew"
        )
    names = {n.name for n in graph.nodes}
    for name in float_nodes:
        if name not in names:
            raise CalibrationError(unknown_name("node", name, names))

    left: dict[str, str] = {}
    edges: dict[tuple[str, int], str] = {}
    layers: list[str] = []
    prelude = graph.prelude()
    for node in graph.nodes:
        if node.op_type not in _LAYERS:
            continue
        reason = "asked for" if node.name in float_nodes else _reason_to_leave(graph, node, prelude)
        if reason:
            left[node.name] = reason
        else:
            layers.append(node.name)
            edges[node.name, 0] = node.input[0]
    if not layers:
        raise CalibrationError(f"no convolution of the graph can be quantised: {left or 'it has none'}")
    depth = _depths(graph)
    for node in graph.nodes:
        if node.op_type == "Add" and node.name not in float_nodes:
            skip = _skip_input(graph, node, set(layers), depth)
            if skip is not None:
                edges[node.name, skip] = node.input[skip]
    groups = _carry_back(graph, edges, prelude)
    # Any other Add takes the int8 copy of a tensor where there is one: nobody then needs the float copy written.
    quantized = set(edges.values())
    for node in graph.nodes:
        if node.op_type == "Add" and node.name not in float_nodes:
            edges.update({(node.name, k): name for k, name in enumerate(node.input) if name in quantized})
    return Placement(tuple(layers), tuple(edges), groups, left, _int8_share(graph, layers))


def _reason_to_leave(graph: Graph, node: onnx.NodeProto, prelude: set[str]) -> str | None:
    """Why a layer stays in float; None when it can be quantised."""
    if node.input[1] not in graph.initializers:
        return "its weights are computed, not constant"
    if node.input[0] in graph.outputs:
        return f"it reads the graph output {node.input[0]!r}, which stays float"
    shape = graph.array(node.input[1]).shape
    inputs, outputs = (shape[1], shape[0]) if node.op_type == "Conv" else (shape[0], shape[1])
    if min(inputs, outputs) >= _FEW:
        return None
    first = node.input[0] in prelude or node.input[0] in graph.inputs
    square = len(set(shape[2:])) == 1
    whole_words = inputs % 8 == 0 or outputs % 8 == 0
    if attribute(node, "group", 1) == 1 and whole_words and square and (first or max(inputs, outputs) >= _FEW):
        return None
    return f"it has few channels ({inputs} in, {outputs} out)"


def _skip_input(graph: Graph, node: onnx.NodeProto, layers: set[str], depth: Mapping[str, int]) -> int | None:
    """Which input of a residual Add is the skip; None for an Add that no convolution can absorb."""
    if any(i in graph.initializers for i in node.input):
        return None
    producers = [graph.producer.get(i) for i in node.input]
    absorbs = [
        k
        for k, p in enumerate(producers)
        if p is not None
        and p.name in layers
        and len(graph.consumers[node.input[k]]) == 1
        and node.input[k] not in graph.outputs
    ]
    if not absorbs:
        return None
    main = max(absorbs, key=lambda k: depth[node.input[k]])
    skip = 1 - main
    return None if node.input[skip] in graph.outputs else skip


def _carry_back(graph: Graph, edges: dict[tuple[str, int], str], prelude: set[str]) -> tuple[tuple[str, ...], ...]:
    """Quantise the inputs of value-moving operators whose result is quantised, and tie their scales together.

    The prelude is left whole: normalisation, layout and rounding of the input make one kernel.
    """
    group: dict[str, set[str]] = {}
    waiting = list(dict.fromkeys(edges.values()))
    for name in waiting:  # grows while it is read
        group.setdefault(name, {name})
        node = graph.producer.get(name)
        if node is None or name in prelude or not _only_moves(node):
            continue
        moved = graph.data_inputs(node)
        if any(i in graph.outputs for i in moved) or len(moved) != _data_arity(node):
            continue
        for k, source in enumerate(node.input[: len(moved)]):
            edges.setdefault((node.name, k), source)
            if source not in group:
                group[source] = {source}
                waiting.append(source)
            joined = group[name] | group[source]
            for member in joined:
                group[member] = joined
    unique = {id(g): g for g in group.values()}
    return tuple(tuple(sorted(g)) for g in unique.values())


def _only_moves(node: onnx.NodeProto) -> bool:
    """Whether every output value of an operator is one of its input values."""
    if node.op_type == "Resize":
        return bool(attribute(node, "mode", "nearest") == "nearest")
    return node.op_type in {"Concat", "Identity", "MaxPool", "Reshape", "Transpose"}


def _data_arity(node: onnx.NodeProto) -> int:
    return len(node.input) if node.op_type == "Concat" else 1


def _depths(graph: Graph) -> dict[str, int]:
    """Nodes on the longest way from a graph input to each tensor."""
    depth: dict[str, int] = {}
    for node in graph.nodes:
        level = 1 + max((depth.get(i, 0) for i in node.input), default=0)
        depth.update(dict.fromkeys(node.output, level))
    return depth


def _int8_share(graph: Graph, layers: Collection[str]) -> float:
    """Share of the multiply-accumulates of all layers that `layers` have."""
    shapes = float_tensors(graph.model)
    macs: dict[str, int] = {}
    for node in graph.nodes:
        if node.op_type in _LAYERS:
            # Each position of a Conv's output, or of a ConvTranspose's input, meets every weight once.
            swept = node.output[0] if node.op_type == "Conv" else node.input[0]
            weights = 1 if node.input[1] not in graph.initializers else graph.array(node.input[1]).size
            spatial = [d.dim_value for d in shapes[swept].shape.dim[2:]]
            macs[node.name] = int(np.prod(spatial)) * int(weights)
    return sum(macs[name] for name in layers) / max(sum(macs.values()), 1)


class _Writer:
    """Writes the nodes and constants of a placement into its graph."""

    def __init__(
        self, graph: Graph, placement: Placement, ranges: Mapping[str, Range], unsigned: bool, half: bool
    ) -> None:
        self.graph = graph
        self.placement = placement
        self.half = half
        self.scale: dict[str, float] = {}
        self.zero: dict[str, NDArray[Any]] = {}
        positive = _never_negative(graph) if unsigned else set()
        for group in placement.groups:
            joined = _joined(ranges, group)
            wide = all(name in positive for name in group)
            scale = self._representable(np.array(joined.hi / 255 if wide else joined.amax / 127))
            for name in group:
                self.scale[name] = float(scale)
                self.zero[name] = np.array(0, np.uint8 if wide else np.int8)

    def run(self) -> None:
        nodes = {n.name: n for n in self.graph.nodes}
        pairs: dict[str, str] = {}
        for name, k in self.placement.edges:
            tensor = nodes[name].input[k]
            if tensor not in pairs:
                pairs[tensor] = self._pair(tensor)
            nodes[name].input[k] = pairs[tensor]
            if name in self.placement.layers and k == 0:
                self._weights(nodes[name], self.scale[tensor])

    def _pair(self, tensor: str) -> str:
        g = self.graph
        scale = g.add_initializer(np.array(self.scale[tensor], np.float32), f"{tensor}/scale")
        zero = g.add_initializer(self.zero[tensor], f"{tensor}/zero")
        quantized, back = g.fresh(f"{tensor}/int8"), g.fresh(f"{tensor}/dequantized")
        g.nodes.append(helper.make_node("QuantizeLinear", [tensor, scale, zero], [quantized], name=f"{quantized}/q"))
        g.nodes.append(helper.make_node("DequantizeLinear", [quantized, scale, zero], [back], name=f"{back}/dq"))
        return back

    def _weights(self, node: onnx.NodeProto, input_scale: float) -> None:
        g = self.graph
        axis = 0 if node.op_type == "Conv" else 1
        weights = g.array(node.input[1])
        others = tuple(k for k in range(weights.ndim) if k != axis)
        scales = np.abs(weights).max(axis=others).astype(np.float64) / 127
        if len(node.input) > 2 and node.input[2] in g.initializers and axis == 0:
            # CPU libraries hold the bias as int32 in units of input scale * weight scale. A channel that is nearly zero
            # but has a bias would overflow it; such a channel loses nothing by a coarser scale.
            bias = np.abs(g.array(node.input[2])).astype(np.float64)
            scales = np.maximum(scales, bias / (input_scale * 2.0**30))
        scales = self._representable(scales)
        shape = [-1 if k == axis else 1 for k in range(weights.ndim)]
        levels = np.clip(np.rint(weights / scales.reshape(shape)), -127, 127).astype(np.int8)
        name = node.input[1]
        inputs = [
            g.add_initializer(levels, f"{name}/int8"),
            g.add_initializer(scales.astype(np.float32), f"{name}/scale"),
            g.add_initializer(np.zeros(scales.shape, np.int8), f"{name}/zero"),
        ]
        back = g.fresh(f"{name}/dequantized")
        g.nodes.append(helper.make_node("DequantizeLinear", inputs, [back], name=f"{back}/dq", axis=axis))
        node.input[1] = back

    def _representable(self, scales: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scales as the graph will store them, never below what covers the range; one for a range of only zero.

        In float16 a small scale has few bits: the weights must be rounded with the scale that will be used.
        """
        scales = np.where(scales == 0, 1.0, np.maximum(scales, _SMALLEST_SCALE))
        dtype = np.float16 if self.half else np.float32
        stored = scales.astype(dtype)
        stored = np.where(stored < scales, np.nextafter(stored, dtype(np.inf)), stored)
        return stored.astype(np.float64)


def _joined(ranges: Mapping[str, Range], group: Collection[str]) -> Range:
    """The range that holds those of all tensors of a group."""
    joined = Range(0.0, 0.0)
    for name in group:
        if name not in ranges:
            raise CalibrationError(f"no range for the tensor {name!r}; collect those of place(model).tensors")
        seen = ranges[name]
        if not (np.isfinite(seen.lo) and np.isfinite(seen.hi) and seen.lo <= 0 <= seen.hi):
            raise CalibrationError(f"the range of {name!r} is {seen}; it must be finite and hold zero")
        joined |= seen
    return joined


def _never_negative(graph: Graph) -> set[str]:
    """Tensors that cannot be negative whatever the input, as the graph itself proves."""
    positive: set[str] = set()
    for node in graph.nodes:
        data = graph.data_inputs(node)
        keeps = _only_moves(node) or node.op_type in {"Add", "Mul", "AveragePool", "GlobalAveragePool"}
        linear = node.op_type == "Resize" and attribute(node, "mode", "nearest") == "linear"
        if node.op_type in {"Relu", "Sigmoid", "Softmax"} or (
            (keeps or linear) and len(data) == _data_arity_of_values(node) and all(d in positive for d in data)
        ):
            positive.update(node.output)
    return positive


def _data_arity_of_values(node: onnx.NodeProto) -> int:
    """How many inputs of an operator carry values (the others say shapes or scales)."""
    return len(node.input) if node.op_type in {"Add", "Concat", "Mul"} else 1
