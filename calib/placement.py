"""Where QuantizeLinear/DequantizeLinear pairs go, so that TensorRT, OpenVINO and ONNX Runtime fuse them.

The rules are those of NVIDIA's documentation for explicitly quantised networks:

1. The inputs of Conv, ConvTranspose and of products with constant matrices are quantised, not their outputs; one pair
   per tensor, shared by its readers. So Conv-ReLU stays fused, with the pair behind the ReLU, and the graph's output
   (the heatmap) is never quantised.
2. Weights are int8, symmetric, one scale per output channel. The bias stays float.
3. A residual Add with a convolution on one branch keeps that branch float and quantises the other, the skip: then
   Conv+Add+ReLU is one kernel that reads and writes int8. Of two convolutions the shallower counts as the skip. Every
   other Add reads the int8 copy of an input that has one (measured: saves 15 kernels of hrnet_w32 in OpenVINO, 4 %).
4. Operators that only move values (MaxPool, nearest Resize, Concat, ...) and whose result is quantised are quantised
   before, too, with the same scale, and so run in int8 without a rescale.
5. Convolutions with very few channels stay float: int8 kernels pad them and are slower.
6. On CPUs only: the input of a nearest Resize that an Add reads is quantised, if a quantised layer computes it. The Add
   still reads floats, but the Resize moves a quarter of the bytes (OpenVINO, one core: 5 % of a narrow HRNet's time,
   1 % of HRNet-W32's).
7. A matrix product that gives an output of the graph stays float: SimCC's vectors are that, and their peaks decide the
   joints. So do products of two computed matrices, as attention has them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import onnx

from ..runtime.errors import CalibrationError
from ..runtime.registry import unknown_name
from .graph import QDQ, Graph, attribute
from .macs import by_node

LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
REQUESTED = "requested"  # the reason of a node in `float_nodes`
_FEW_CHANNELS = 16


@dataclass(frozen=True)
class Placement:
    """What will be quantised.

    Attributes:
        layers: names of the nodes of LAYERS that compute in int8.
        edges: (node name, input index) of every float input that gets a Q/DQ pair.
        cpu_edges: the same of the nearest Resizes whose input only the unsigned variant, for CPUs, quantises.
        scale_groups: sets of tensors that share one scale; together all quantised activations of both variants.
        other_skips: tensors that residual Adds quantise instead once some layers are in `float_nodes`.
        skipped: names of the layers that stay in float, each with the reason.
        int8_macs: share of the multiply-adds that are in int8, 0 to 1; None if a node cannot be counted.
    """

    layers: tuple[str, ...]
    edges: tuple[tuple[str, int], ...]
    cpu_edges: tuple[tuple[str, int], ...]
    scale_groups: tuple[tuple[str, ...], ...]
    other_skips: tuple[str, ...]
    skipped: dict[str, str]
    int8_macs: float | None

    @property
    def tensors(self) -> list[str]:
        """The tensors whose ranges `quantize` needs, with these and with more nodes in float."""
        return [*(name for group in self.scale_groups for name in group), *self.other_skips]


def place(model: onnx.ModelProto | Graph, float_nodes: Collection[str] = ()) -> Placement:
    """Decide from the graph alone where Q/DQ pairs go.

    Args:
        model: float32 graph with batch-norm folded.
        float_nodes: names of nodes to keep in float: layers, or Adds that shall read floats only.

    Raises:
        CalibrationError: the graph is already quantised, is older than opset 13, has no layer to quantise, or has no
            node of a name in `float_nodes`.
    """
    graph = model if isinstance(model, Graph) else Graph(model)
    present = sorted({n.op_type for n in graph.nodes} & QDQ)
    if present:
        raise CalibrationError(f"the graph is already quantised (it has {', '.join(present)}); give the float32 graph")
    if graph.opset < 13:
        raise CalibrationError(
            f"int8 scales per channel need opset 13 or newer, the graph has opset {graph.opset}; export it again with "
            "a newer opset"
        )
    names = {n.name for n in graph.nodes}
    for name in float_nodes:
        if name not in names:
            raise CalibrationError(unknown_name("node", name, names))

    skipped: dict[str, str] = {}
    edges: dict[tuple[str, int], str] = {}
    layers: list[str] = []
    preprocessing = graph.preprocessing()
    for node in graph.nodes:
        if node.op_type not in LAYERS:
            continue
        reason = REQUESTED if node.name in float_nodes else _reason_to_skip(graph, node, preprocessing)
        if reason:
            skipped[node.name] = reason
        else:
            layers.append(node.name)
            edges[node.name, 0] = node.input[0]
    if not layers:
        raise CalibrationError(f"no layer of the graph can be quantised: {skipped or 'it has none'}")
    depth = _depths(graph)
    adds = [n for n in graph.nodes if n.op_type == "Add" and n.name not in float_nodes]
    either = dict(edges)
    for node in adds:
        skip = _skip_input(graph, node, set(layers), depth)
        if skip is not None:
            edges[node.name, skip] = node.input[skip]
            either.update({(node.name, k): name for k, name in enumerate(node.input) if name not in graph.outputs})
    groups = _carry_back(graph, edges, preprocessing)
    # Any other Add takes the int8 copy of a tensor where there is one: the float copy then need not be written.
    quantized = set(edges.values())
    for node in adds:
        edges.update({(node.name, k): name for k, name in enumerate(node.input) if name in quantized})
    cpu_edges = _upsampled(graph, edges, layers, {n.name for n in adds})
    known = {name for group in groups for name in group}
    groups += tuple((name,) for name in dict.fromkeys(cpu_edges.values()) if name not in known)
    known = {name for group in groups for name in group}
    others = [name for group in _carry_back(graph, either, preprocessing) for name in group if name not in known]
    share = _int8_share(graph, layers)
    return Placement(tuple(layers), tuple(edges), tuple(cpu_edges), groups, tuple(others), skipped, share)


def _reason_to_skip(graph: Graph, node: onnx.NodeProto, preprocessing: set[str]) -> str | None:
    """Why a layer stays in float; None when it can be quantised."""
    if node.input[1] not in graph.initializers:
        return "its weights are computed, not constant"
    if node.input[0] in graph.outputs:
        return f"it reads the graph output {node.input[0]!r}, which stays float"
    shape = graph.array(node.input[1]).shape
    product = node.op_type in ("Gemm", "MatMul")
    if product and (len(shape) != 2 or attribute(node, "transA", 0)):
        return "its matrix is not one for all rows of its input"
    if product and _gives_output(graph, node):
        return "it gives an output of the graph"
    outputs = shape[output_axis(node)]
    inputs = shape[1 - output_axis(node)]
    if min(inputs, outputs) >= _FEW_CHANNELS:
        return None
    if product:
        return f"it has few channels ({inputs} in, {outputs} out)"
    first = node.input[0] in preprocessing or node.input[0] in graph.inputs
    square = len(set(shape[2:])) == 1
    whole_words = inputs % 8 == 0 or outputs % 8 == 0
    wide_enough = first or max(inputs, outputs) >= _FEW_CHANNELS
    if attribute(node, "group", 1) == 1 and whole_words and square and wide_enough:
        return None
    return f"it has few channels ({inputs} in, {outputs} out)"


def output_axis(node: onnx.NodeProto) -> int:
    """The axis of a layer's weights that counts its output channels."""
    if node.op_type in ("ConvTranspose", "MatMul"):
        return 1
    return 1 - attribute(node, "transB", 0) if node.op_type == "Gemm" else 0


def _gives_output(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a node's result, with at most a constant added and its shape changed, is an output of the graph."""
    name = node.output[0]
    while name not in graph.outputs:
        readers = [reader for reader, _ in graph.consumers.get(name, ())]
        if len(readers) != 1 or readers[0].op_type not in ("Add", "Reshape", "Squeeze", "Transpose", "Unsqueeze"):
            return False
        if len(graph.computed_inputs(readers[0])) != 1:
            return False
        name = readers[0].output[0]
    return True


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


def _carry_back(
    graph: Graph, edges: dict[tuple[str, int], str], preprocessing: set[str]
) -> tuple[tuple[str, ...], ...]:
    """Quantise the inputs of value-moving operators whose result is quantised, and group them to share a scale.

    Preprocessing is not split: normalisation, layout and rounding of the input make one kernel.
    """
    group: dict[str, set[str]] = {}
    waiting = list(dict.fromkeys(edges.values()))
    for name in waiting:  # grows while it is read
        group.setdefault(name, {name})
        node = graph.producer.get(name)
        if node is None or name in preprocessing or not _only_moves(node):
            continue
        moved = graph.computed_inputs(node)
        if any(i in graph.outputs for i in moved) or len(moved) != (len(node.input) if node.op_type == "Concat" else 1):
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


def _upsampled(
    graph: Graph, edges: Mapping[tuple[str, int], str], layers: Collection[str], adds: Collection[str]
) -> dict[tuple[str, int], str]:
    """Float inputs of nearest Resizes that a quantised layer computes and that only Adds read after the Resize."""
    found = {}
    for node in graph.nodes:
        if node.op_type != "Resize" or not _only_moves(node) or (node.name, 0) in edges:
            continue
        producer = graph.producer.get(node.input[0])
        if producer is None or producer.name not in layers or node.input[0] in graph.outputs:
            continue
        readers = [reader for reader, _ in graph.consumers.get(node.output[0], ())]
        if readers and all(reader.name in adds for reader in readers):
            found[node.name, 0] = node.input[0]
    return found


def _only_moves(node: onnx.NodeProto) -> bool:
    """Whether every output value of an operator is one of its input values."""
    if node.op_type == "Resize":
        return bool(attribute(node, "mode", "nearest") == "nearest")
    return node.op_type in {"Concat", "Identity", "MaxPool", "Reshape", "Transpose"}


def _depths(graph: Graph) -> dict[str, int]:
    """Nodes on the longest path from a graph input to each tensor."""
    depth: dict[str, int] = {}
    for node in graph.nodes:
        level = 1 + max((depth.get(i, 0) for i in node.input), default=0)
        depth.update(dict.fromkeys(node.output, level))
    return depth


def _int8_share(graph: Graph, layers: Collection[str]) -> float | None:
    """Share of the graph's multiply-adds that `layers` have."""
    counts = by_node(graph.model)
    known = {name: count for name, count in counts.items() if count is not None}
    if len(known) < len(counts):
        return None
    return sum(known[name] for name in layers) / max(sum(known.values()), 1)
