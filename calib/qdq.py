"""INT8 by QuantizeLinear/DequantizeLinear pairs.

Two steps: `place` decides from the graph alone what is quantised (placement.py has the rules), `quantize` writes it
with those tensors' ranges.
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
from . import placement
from .fp16 import to_fp16
from .graph import Graph
from .histogram import Range
from .placement import Placement

_SMALLEST_SCALE = float(np.finfo(np.float16).smallest_subnormal)


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
    return placement.place(Graph(model), float_nodes)


def quantize(
    model: onnx.ModelProto,
    ranges: Mapping[str, Range],
    *,
    float_nodes: Collection[str] = (),
    unsigned: bool = False,
    rest: Literal["float32", "float16"] = "float32",
    wide: Collection[str] = (),
) -> Quantized:
    """Write the Q/DQ pairs that `place` decides on.

    Args:
        model: float32 graph with batch-norm folded; not changed.
        ranges: of at least `place(model, float_nodes).tensors`.
        float_nodes: as for `place`.
        unsigned: the twin for CPUs: activations are uint8 with a zero point that is 0 behind a ReLU. That is one bit
            more there than the symmetric int8 which TensorRT demands, and what x86 multiplies fastest. Use it on CPUs
            for correctness, too: OpenVINO 2026.4 errs by a fifth in a signed Concat.
        rest: type of all that is not int8; "float16" (GPUs) needs opset 19 or newer.
        wide: with a float16 rest, names of nodes that compute in float32 all the same, see `fp16.overflows`.

    Raises:
        CalibrationError: as for `place`; also for a missing or impossible range, and for `rest="float16"` with an older
            opset or together with `unsigned`.
    """
    if rest == "float16" and unsigned:
        raise CalibrationError(
            "unsigned activations are for CPUs and a float16 rest is for GPUs; ask for one of the two"
        )
    graph = Graph(model)
    placed = placement.place(graph, float_nodes)
    if rest == "float16" and graph.opset < 19:
        raise CalibrationError(
            f"a float16 rest needs opset 19 or newer for its scales, and the graph has opset {graph.opset}; export "
            'with a newer opset or ask for rest="float32"'
        )
    _Writer(graph, placed, ranges, unsigned, half=rest == "float16").run()
    result = graph.finish()
    return Quantized(to_fp16(result, wide) if rest == "float16" else result, placed)


class _Writer:
    """Writes the nodes and constants of a placement into its graph."""

    def __init__(
        self, graph: Graph, placed: Placement, ranges: Mapping[str, Range], unsigned: bool, half: bool
    ) -> None:
        self.graph = graph
        self.placed = placed
        self.half = half
        self.edges = (*placed.edges, *placed.enlarged) if unsigned else placed.edges
        self.scale: dict[str, float] = {}
        self.zero: dict[str, NDArray[Any]] = {}
        for group in placed.groups:
            seen = _joined(ranges, group)
            step = (seen.hi - seen.lo) / 255 if unsigned else seen.amax / 127
            scale = float(self._representable(np.array(step)))
            zero = np.array(np.rint(-seen.lo / scale), np.uint8) if unsigned else np.array(0, np.int8)
            for name in group:
                self.scale[name], self.zero[name] = scale, zero

    def run(self) -> None:
        nodes = {n.name: n for n in self.graph.nodes}
        pairs: dict[str, str] = {}
        for name, k in self.edges:
            tensor = nodes[name].input[k]
            if tensor not in pairs:
                pairs[tensor] = self._pair(tensor)
            nodes[name].input[k] = pairs[tensor]
            if name in self.placed.layers and k == 0:
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
        bias = g.array(node.input[2]) if len(node.input) > 2 and node.input[2] in g.initializers else np.zeros(0)
        if bias.shape == scales.shape:
            # CPU libraries hold the bias as int32 in units of input scale * weight scale. A channel that is nearly zero
            # but has a bias would overflow it; such a channel loses nothing by a coarser scale.
            scales = np.maximum(scales, np.abs(bias) / (input_scale * 2.0**30))
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
        dtype = np.dtype(np.float16 if self.half else np.float32)
        near = scales.astype(dtype)
        above = np.nextafter(near, np.array(np.inf, dtype)).astype(np.float64)
        return np.where(near < scales, above, near.astype(np.float64))


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
