"""Channels of like size: a scale per channel of the activations, which costs nothing at run time.

int8 has one scale for a whole tensor, and its largest channel sets it. But convolutions, ReLU, addition, pooling and
Resize commute with a positive factor per channel, so that a channel may be divided by it where it is computed and
multiplied by it where it is read, both in weights that are stored with scales per output channel anyway. The network
computes the same; its small channels get finer steps. (Meller et al., ICML 2019; Nagel et al., ICCV 2019.)

A channel is divided by the root of its size relative to the largest: equal channels would need weights of very
different size in the layer that reads them, and what the activations gain there the weights lose.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from .graph import Graph, attribute
from .observers import Observer
from .pixels import find_pixels
from .placement import output_axis

_COMMUTES = frozenset({"Add", "AveragePool", "GlobalAveragePool", "Identity", "MaxPool", "Relu", "Resize"})
_LAYERS = frozenset({"Conv", "ConvTranspose"})
_SMALLEST = 0.01  # relative size of a channel; smaller ones are left so small, most of them are noise or dead
POWER = 0.5

Scales = dict[str, NDArray[np.float32]]


def channel_scales(graph: Graph, seen: Mapping[str, Observer]) -> Scales:
    """The factors `(C,)` of the channels of every tensor that can have some; at most 1, and 1 for a largest channel.
    Those of normalised images are the factors of the normalisation.

    Args:
        graph: the float32 network.
        seen: of the tensors that will be quantised.
    """
    found: Scales = {}
    for tensors in _components(graph):
        sizes = [np.maximum(-seen[name].lo, seen[name].hi) for name in tensors if name in seen]
        relative = [size / size.max() for size in sizes if size.max() > 0]
        channels = {len(size) for size in sizes} | _written(graph, tensors)
        if relative and len(channels) == 1:
            largest = np.maximum(np.max(relative, axis=0), _SMALLEST)
            found |= dict.fromkeys(tensors, (largest**POWER).astype(np.float32))
    pixels = find_pixels(graph)
    if pixels is not None and pixels.tensor in seen:
        found[pixels.tensor] = graph.array(pixels.factor).ravel()
    return found


def equalise(graph: Graph, scales: Mapping[str, NDArray[np.float32]]) -> None:
    """Divide the channels of these tensors by their factors, in the weights of the layers around them."""
    pixels = find_pixels(graph)
    if pixels is not None and pixels.tensor in scales:
        _store(graph, pixels.factor, graph.array(pixels.factor) / scales[pixels.tensor])
    for node in graph.nodes:
        if node.op_type not in _LAYERS:
            continue
        out, read = scales.get(node.output[0]), scales.get(node.input[0])
        if out is None and read is None:
            continue
        axis = output_axis(node)
        weights = graph.array(node.input[1])
        for factor, k in ((read, 1 - axis), (None if out is None else 1 / out, axis)):
            if factor is not None:
                weights = weights * factor.reshape([-1 if i == k else 1 for i in range(weights.ndim)])
        _store(graph, node.input[1], weights)
        if out is not None and len(node.input) > 2:
            _store(graph, node.input[2], graph.array(node.input[2]) / out)


def _store(graph: Graph, name: str, values: NDArray[Any]) -> None:
    graph.initializers[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name))


def _written(graph: Graph, tensors: Collection[str]) -> set[int]:
    """How many channels the layers that write these tensors have."""
    layers = [node for name in tensors if (node := graph.producer[name]).op_type in _LAYERS]
    return {graph.array(node.input[1]).shape[output_axis(node)] for node in layers}


def _components(graph: Graph) -> list[list[str]]:
    """Tensors that must have the same factors, in the order in which they are computed; only those that can have some:
    written and read by convolutions alone, through operators that commute with a factor."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    for node in graph.nodes:
        if node.op_type in _COMMUTES:
            for name in graph.computed_inputs(node):
                parent[root(name)] = root(node.output[0])
    members: dict[str, list[str]] = {}
    for node in graph.nodes:
        for name in node.output:
            members.setdefault(root(name), []).append(name)
    return [names for names in members.values() if all(_free(graph, name) for name in names)]


def _free(graph: Graph, name: str) -> bool:
    """Whether a tensor's channels may be scaled as far as its producer and its readers are concerned."""
    readers = graph.consumers.get(name, [])
    if name in graph.outputs or not readers:
        return False
    return _scalable(graph, graph.producer[name]) and all(
        _scalable(graph, reader) and (k == 0 or reader.op_type not in _LAYERS) for reader, k in readers
    )


def _scalable(graph: Graph, node: onnx.NodeProto) -> bool:
    if node.op_type == "Add":
        return len(graph.computed_inputs(node)) == 2
    if node.op_type not in _LAYERS:
        return node.op_type in _COMMUTES
    constants = node.input[1:]
    alone = all(name in graph.initializers and len(graph.consumers[name]) == 1 for name in constants)
    return alone and attribute(node, "group", 1) == 1
