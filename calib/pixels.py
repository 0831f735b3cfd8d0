"""The image as it is: the first convolution of the graph for CPUs reads the uint8 pixels, with no step in between.

Normalised pixels are rounded once more when they are quantised, which was a sixth of the squared error of an HRNet's
outputs. Pixels are whole numbers from 0 to 255 already: the factors of the normalisation go into the weights, as those
of any tensor's channels do, and its mean becomes the zero point. That is one number for all channels, and a padding
convolution pads with it. So where channels have other means, a fourth channel carries the difference: it is 255 in the
image and, as padding, nothing around it, so that borders are exact, too. Kernels for int8 compute four channels as fast
as three, and the normalisation in float is gone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from .graph import Graph, attribute

_OPERATORS = ["Transpose", "Mul", "Sub", "Cast"]  # from the first layer back to the crops
_LARGEST = 255


@dataclass(frozen=True)
class Pixels:
    """How a graph normalises its crops.

    Attributes:
        crops: the input, `(N, H, W, C)` uint8.
        tensor: the normalised images `(N, C, H, W)`.
        layer: the convolution that alone reads them.
        factor: the constant that they were multiplied with.
        mean: `(C,)` that was subtracted, in levels of a pixel.
    """

    crops: str
    tensor: str
    layer: onnx.NodeProto
    factor: str
    mean: NDArray[np.float64]

    @property
    def zero(self) -> int:
        """The level that stands for zero."""
        return int(np.clip(np.rint(self.mean.mean()), 0, _LARGEST - 1))


def find_pixels(graph: Graph) -> Pixels | None:
    """How the graph normalises; None if it does not begin with that, or if others read what it gives."""
    crops = graph.inputs[0]
    nodes: list[onnx.NodeProto] = []
    name = crops
    while len(nodes) < len(_OPERATORS):
        readers = graph.consumers.get(name, [])
        if len(readers) != 1 or readers[0][1] != 0 or name in graph.outputs:
            return None
        nodes.append(readers[0][0])
        name = nodes[-1].output[0]
    _, subtract, multiply, transpose = nodes
    readers = graph.consumers.get(name, [])
    uint8 = graph.model.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    if not uint8 or [node.op_type for node in nodes[::-1]] != _OPERATORS or len(readers) != 1:
        return None
    layer, index = readers[0]
    if index != 0 or layer.op_type != "Conv" or name in graph.outputs or attribute(layer, "group", 1) != 1:
        return None
    constants = (subtract.input[1], multiply.input[1])
    if attribute(transpose, "perm") != [0, 3, 1, 2] or any(one not in graph.initializers for one in constants):
        return None
    mean, factor = (graph.array(one) for one in constants)
    channels = graph.array(layer.input[1]).shape[1] if layer.input[1] in graph.initializers else 0
    if mean.shape != (1, 1, 1, channels) or mean.shape != factor.shape or (factor <= 0).any():
        return None
    if any(len(graph.consumers[one]) != 1 for one in (*constants, layer.input[1])):
        return None
    return Pixels(crops, name, layer, multiply.input[1], mean.ravel().astype(np.float64))


def read_pixels(graph: Graph, pixels: Pixels) -> tuple[str, bool]:
    """Dequantise the crops in place of normalising them. Their factors must have gone into the weights before.

    Returns:
        The tensor to read, `(N, C, H, W)` in levels above `pixels.zero`, and whether it has a channel more, of
        255 - zero.
    """
    more = bool((pixels.mean != pixels.zero).any())
    tensor, dead = pixels.tensor, graph.producer[pixels.tensor]
    for _ in _OPERATORS:
        graph.nodes.remove(dead)
        dead = graph.producer.get(dead.input[0], dead)
    source = graph.fresh(f"{tensor}/planes")
    graph.nodes.append(
        helper.make_node("Transpose", [pixels.crops], [source], name=f"{source}/transpose", perm=[0, 3, 1, 2])
    )
    if more:  # behind the transposition: in OpenVINO 2026.4 a tenth of the network's time less than before it
        ends = graph.add_initializer(np.array([0, 0, 0, 0, 0, 1, 0, 0]), f"{tensor}/pads")
        fill = graph.add_initializer(np.array(_LARGEST, np.uint8), f"{tensor}/fill")
        planes, source = source, graph.fresh(f"{tensor}/int8")
        graph.nodes.append(helper.make_node("Pad", [planes, ends, fill], [source], name=f"{source}/pad"))
    back = graph.fresh(f"{tensor}/dequantized")
    scale = graph.add_initializer(np.array(1, np.float32), f"{tensor}/scale")
    zero = graph.add_initializer(np.array(pixels.zero, np.uint8), f"{tensor}/zero")
    graph.nodes.append(helper.make_node("DequantizeLinear", [source, scale, zero], [back], name=f"{back}/dq"))
    return back, more


def with_mean(
    levels: NDArray[np.int8], scales: NDArray[np.float64], pixels: Pixels
) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Weights for the channel more, which subtracts the mean.

    Args:
        levels: `(O, C, k, k)`, of the weights.
        scales: `(O,)`, of their output channels.
        pixels: of the graph.

    Returns:
        Levels `(O, C + 1, k, k)`, and what is to be added to the bias `(O,)` for the rounding of the new ones.
    """
    height = _LARGEST - pixels.zero
    shift = (pixels.zero - pixels.mean) / height
    wanted = np.einsum("ocyx,c->oyx", levels.astype(np.float64), shift)
    added = np.clip(np.rint(wanted), -127, 127)
    rest = (wanted - added).sum(axis=(1, 2)) * height * scales
    return np.concatenate([levels, added[:, None].astype(np.int8)], axis=1), rest
