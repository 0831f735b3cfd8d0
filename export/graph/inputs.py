"""What a bundle's graph takes: uint8 crops as it is, or what other programs would rather give it."""

from __future__ import annotations

import copy

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ...runtime.bundle.contract import Contract
from .reference import ExportError
from .to_onnx import swap_first_convolution

INPUTS = ("uint8", "float", "normalised")
"""uint8: crops `(N, H, W, 3)` BGR. float: the same values as `(N, 3, H, W)` float32, BGR. normalised: `(N, 3, H, W)`
float32, `(p / 255 - mean) / std`, in the colour order that the network was trained with."""

_FRONT = ["normalise.cast", "normalise.sub", "normalise.mul", "normalise.transpose"]
_SWAP = "normalise.swap"


def with_input(bundled: onnx.ModelProto, contract: Contract, kind: str) -> onnx.ModelProto:
    """A bundle's graph, of any precision, that takes one of `INPUTS`; it computes the same from the same crop.

    Raises ExportError: the graph does not begin as `with_crops` has it.
    """
    model, c = copy.deepcopy(bundled), contract
    if kind == "uint8":
        return model
    graph = model.graph
    front = [node for node in graph.node if node.name.startswith("normalise.")]
    swaps = any(node.name == _SWAP for node in front)
    if [node.name for node in front if node.name != _SWAP] != _FRONT or front[-1].output[:] != ["images"]:
        raise ExportError("the graph does not begin with the normalisation of posert build: rebuild the bundle")
    constants = [tensor for tensor in graph.initializer if tensor.name.startswith("normalise.")]
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in constants}
    for node in front:
        graph.node.remove(node)
    for tensor in constants:
        graph.initializer.remove(tensor)
    name = "crops" if kind == "float" else "images"
    if kind == "float":
        _put_first(graph, _normalisation(graph, held, swaps))
    elif c.model_color != c.color and not swaps and not swap_first_convolution(graph):
        # The first convolution's weights are in the crop's order, and quantised or in float16.
        for node in graph.node:
            node.input[:] = ["images.swapped" if one == "images" else one for one in node.input]
        _put_first(graph, [_swap(graph, "images", "images.swapped")])
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3, c.height, c.width]))
    onnx.checker.check_model(model, full_check=True)
    return model


def input_of(crops: NDArray[np.uint8], contract: Contract, kind: str) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Crops `(N, H, W, 3)` uint8 BGR as what a graph of this kind takes."""
    if kind == "uint8":
        return crops
    images = np.ascontiguousarray(crops.transpose(0, 3, 1, 2), np.float32)
    if kind == "float":
        return images
    ordered = images if contract.model_color == contract.color else images[:, ::-1]
    mean, std = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (contract.mean, contract.std))
    return np.ascontiguousarray((ordered / np.float32(255) - mean) / std)


def _normalisation(graph: onnx.GraphProto, held: dict[str, NDArray[np.float32]], swaps: bool) -> list[onnx.NodeProto]:
    """The nodes of `with_crops` for planes in place of interleaved pixels, with their constants put into the graph."""
    for name in ("normalise.mean", "normalise.scale"):
        graph.initializer.append(numpy_helper.from_array(held[name].reshape(1, 3, 1, 1), name))
    last = "normalise.planes" if swaps else "images"
    nodes = [
        helper.make_node("Sub", ["crops", "normalise.mean"], ["normalise.centred"], "normalise.sub"),
        helper.make_node("Mul", ["normalise.centred", "normalise.scale"], [last], "normalise.mul"),
    ]
    return [*nodes, _swap(graph, last, "images")] if swaps else nodes


def _swap(graph: onnx.GraphProto, read: str, written: str) -> onnx.NodeProto:
    graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 0]), "normalise.order"))
    return helper.make_node("Gather", [read, "normalise.order"], [written], _SWAP, axis=1)


def _put_first(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])
