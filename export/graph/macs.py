"""Multiply-adds of the convolutions at batch 1: of a network's forward pass, and of a graph exported from it."""

from __future__ import annotations

import math

import onnx
import torch
from onnx import shape_inference
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ...runtime.errors import PosertError


def of_network(network: nn.Module, height: int, width: int) -> int:
    """Counted while the network runs on an image of this size, px.

    A network that lies on torch's meta device is counted without computing anything.
    """
    device = next(network.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.empty(1, 3, height, width, device=device))
    return counter.get_total_flops() // 2


def of_graph(model: onnx.ModelProto) -> int:
    """Counted on the nodes of a graph whose spatial sizes are static.

    Raises:
        PosertError: for a node that multiplies matrices in a way that is not counted here, or an unknown size.
    """
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    inferred = shape_inference.infer_shapes(model).graph
    sizes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim[2:]]
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
    }
    total = 0
    for node in model.graph.node:
        if node.op_type in ("MatMul", "Gemm", "Einsum", "ConvInteger", "QLinearConv"):
            raise PosertError(f"multiply-adds of {node.op_type} ({node.name}) are not counted; expected convolutions")
        if node.op_type in ("Conv", "ConvTranspose"):
            # A convolution's weights make every value of the output, a deconvolution's meet every value of the input.
            places = sizes[node.output[0] if node.op_type == "Conv" else node.input[0]]
            if 0 in places:
                raise PosertError(f"{node.name}: its size is not known; multiply-adds need static sizes")
            total += math.prod(weights[node.input[1]]) * math.prod(places)
    return total
