"""Multiply-adds of an ONNX graph for one crop, node by node."""

from __future__ import annotations

import math
from collections.abc import Mapping

import onnx
from onnx import shape_inference

from .graph import attribute, without_weights

Shapes = Mapping[str, tuple[int, ...]]

_COUNTED = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum"})
# These multiply too; no graph that posert exports for itself has one.
_UNCOUNTED = frozenset(
    {"Attention", "ConvInteger", "DeformConv", "GRU", "LSTM", "MatMulInteger", "QLinearConv", "QLinearMatMul", "RNN"}
)


def of_graph(model: onnx.ModelProto) -> int | None:
    """Multiply-adds of the whole graph; None where one of its nodes cannot be counted."""
    counts = list(by_node(model).values())
    return None if None in counts else sum(count for count in counts if count is not None)


def by_node(model: onnx.ModelProto) -> dict[str, int | None]:
    """Multiply-adds by node name, of the nodes that have any; None where one cannot be counted."""
    shapes = shapes_of_one(model)
    return {node.name: of_node(node, shapes) for node in model.graph.node if node.op_type in _COUNTED | _UNCOUNTED}


def of_node(node: onnx.NodeProto, shapes: Shapes) -> int | None:
    """Multiply-adds of a convolution or a matrix product; None for an unknown shape or any other operator."""
    if node.op_type not in _COUNTED or any(name not in shapes for name in (*node.input[:2], node.output[0])):
        return None
    first, second, result = shapes[node.input[0]], shapes[node.input[:2][-1]], shapes[node.output[0]]
    if node.op_type in ("Conv", "ConvTranspose"):
        # Each position of a convolution's output, or of a deconvolution's input, meets every weight once.
        swept = result if node.op_type == "Conv" else first
        return swept[0] * math.prod(second) * math.prod(swept[2:])
    if node.op_type == "Einsum":
        return _einsum(attribute(node, "equation"), first, second, len(node.input))
    return math.prod(result) * first[0 if attribute(node, "transA") else -1]  # transA: of Gemm


def _einsum(equation: str, first: tuple[int, ...], second: tuple[int, ...], operands: int) -> int | None:
    """A product of two tensors has one multiply-add for each combination of all its indices."""
    terms = equation.replace(" ", "").split("->")[0].split(",")
    if operands != 2 or [len(term) for term in terms] != [len(first), len(second)]:  # an ellipsis stands for several
        return None
    return math.prod(dict(zip("".join(terms), (*first, *second), strict=True)).values())


def shapes_of_one(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Shapes at batch 1 of all tensors whose shape ONNX can infer."""
    light = without_weights(model)
    for value in light.graph.input:
        dims = value.type.tensor_type.shape.dim
        if dims and dims[0].dim_param:
            dims[0].dim_value = 1
    for value in light.graph.output:
        value.type.tensor_type.ClearField("shape")  # it may state a batch of any size
    try:
        graph = shape_inference.infer_shapes(light, data_prop=True).graph
    except shape_inference.InferenceError:
        return {}
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor_type = value.type.tensor_type
        if tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor_type.shape.dim):
            shapes[value.name] = tuple(dim.dim_value for dim in tensor_type.shape.dim)
    return shapes
