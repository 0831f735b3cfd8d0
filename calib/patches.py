"""What a layer's weights are multiplied with: the patches of its input, and the weights as a matrix beside them.

A convolution is one matrix product over patches. A transposed convolution is one for each position of the output within
a stride (its phases), each with its own part of the kernel. A product with a matrix reads rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from .graph import attribute
from .placement import output_axis

Float = NDArray[np.float32]
Index = NDArray[np.intp]


@dataclass(frozen=True)
class Phase:
    """A part of a layer that is one matrix product.

    Attributes:
        taps: rows and columns of the kernel, each `(k,)`.
        offsets: where in the input they lie, from the position times the step; each `(k,)`.
        step: of the input per position.
        size: number of positions, rows and columns; a transposed convolution's are those of the input.
    """

    taps: tuple[Index, Index]
    offsets: tuple[Index, Index]
    step: tuple[int, int]
    size: tuple[int, int]


def phases(node: onnx.NodeProto, kernel: tuple[int, ...], size: tuple[int, ...]) -> list[Phase] | None:
    """The phases of a convolution of a `kernel` over an input of a `size` (rows, columns); of a matrix one that has a
    single tap. None: the layer pads in a way that is not written out."""
    if not kernel:
        one = np.zeros(1, np.intp)
        return [Phase((one, one), (one, one), (1, 1), (1, 1))]
    if len(kernel) != 2 or attribute(node, "auto_pad", "NOTSET") != "NOTSET":
        return None
    pads, strides = attribute(node, "pads", [0] * 4), attribute(node, "strides", [1, 1])
    dilations = attribute(node, "dilations", [1, 1])
    axes: list[list[tuple[Index, Index, int, int]]] = []
    for k, n, before, after, stride, dilation in zip(kernel, size, pads[:2], pads[2:], strides, dilations, strict=True):
        taps = np.arange(k)
        if node.op_type == "Conv":
            positions = (n + before + after - dilation * (k - 1) - 1) // stride + 1
            axes.append([(taps, taps * dilation - before, stride, positions)])
        else:
            # output o = stride * input - before + tap * dilation
            ways = [(r, taps[(r + before - taps * dilation) % stride == 0]) for r in range(stride)]
            axes.append([(t, (r + before - t * dilation) // stride, 1, n) for r, t in ways if len(t)])
    return [Phase((ty, tx), (oy, ox), (sy, sx), (ny, nx)) for ty, oy, sy, ny in axes[0] for tx, ox, sx, nx in axes[1]]


def gather(values: Float, phase: Phase, positions: Index) -> Float:
    """Patches `(P, C * k)` of an input `(C, H, W)` at flat positions `(P,)`; zero outside of it."""
    (oy, ox), (sy, sx) = phase.offsets, phase.step
    y = (positions // phase.size[1] * sy)[:, None] + oy
    x = (positions % phase.size[1] * sx)[:, None] + ox
    rows, columns = values.shape[1:]
    inside = ((y >= 0) & (y < rows))[:, :, None] & ((x >= 0) & (x < columns))[:, None, :]
    found = values[:, np.clip(y, 0, rows - 1)[:, :, None], np.clip(x, 0, columns - 1)[:, None, :]]
    return np.ascontiguousarray((found * inside).transpose(1, 0, 2, 3)).reshape(len(positions), -1)


def matrices(node: onnx.NodeProto, weights: Float, phase: Phase) -> Iterator[tuple[slice, tuple[Index, ...]]]:
    """Where the weights of each group `(O, C * k)` lie: the group's input channels, and indices into `weights` of the
    matrix `(O, C, k, k)`, rows by output channel."""
    axis, groups = output_axis(node), attribute(node, "group", 1)
    if weights.ndim == 2:
        out, read = np.arange(weights.shape[axis]), np.arange(weights.shape[1 - axis])
        yield slice(0, len(read)), (out[:, None], read[None]) if axis == 0 else (read[None], out[:, None])
        return
    ty, tx = phase.taps[0][None, None, :, None], phase.taps[1][None, None, None]
    transposed = node.op_type == "ConvTranspose"
    outputs = weights.shape[1] if transposed else weights.shape[0] // groups
    inputs = weights.shape[0] // groups if transposed else weights.shape[1]
    for g in range(groups):
        out, read = np.arange(outputs)[:, None, None, None], np.arange(inputs)[None, :, None, None]
        pair = (read + g * inputs, out, ty, tx) if transposed else (out + g * outputs, read, ty, tx)
        yield slice(g * inputs, (g + 1) * inputs), pair
