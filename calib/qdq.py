"""Int8 by QuantizeLinear/DequantizeLinear pairs, written where `placement.place` decided."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from ..runtime.errors import CalibrationError
from .calibrated import Calibrated
from .equalise import equalise
from .fp16 import to_fp16
from .graph import Graph
from .observers import Range
from .pixels import Pixels, find_pixels, read_pixels, with_mean
from .placement import Placement, output_axis, place
from .rounding import Rounded, nearest, representable, weight_scales


@dataclass(frozen=True)
class Quantized:
    """An int8 graph and the placement it was written from."""

    model: onnx.ModelProto
    placement: Placement


def quantize(
    model: onnx.ModelProto,
    calibrated: Calibrated | Mapping[str, Range],
    *,
    float_nodes: Collection[str] = (),
    unsigned: bool = False,
    fallback_dtype: Literal["float32", "float16"] = "float32",
    keep_fp32: Collection[str] = (),
) -> Quantized:
    """Write the Q/DQ pairs that `place` decides on.

    Args:
        model: float32 graph with batch-norm folded; not changed.
        calibrated: what calibration found, of at least `place(model, float_nodes).tensors`; ranges alone leave the
            weights as they are, and round them to the nearest level.
        float_nodes: as for `place`.
        unsigned: the variant for CPUs: activations are uint8 with a zero point that is 0 behind a ReLU. That is one bit
            more there than the symmetric int8 which TensorRT demands, and what x86 multiplies fastest. CPUs need it for
            correct results, too: OpenVINO 2026.4 errs by a fifth in a signed Concat.
        fallback_dtype: type of everything that is not int8; "float16" (GPUs) needs opset 19 or newer.
        keep_fp32: with `fallback_dtype="float16"`, names of nodes that compute in float32 all the same, see
            `fp16.overflows`.

    Raises:
        CalibrationError: as for `place`; also for a missing or impossible range, and for `fallback_dtype="float16"`
            with an older opset or together with `unsigned`.
    """
    half = fallback_dtype == "float16"
    if half and unsigned:
        raise CalibrationError(
            'unsigned activations are for CPUs and fallback_dtype="float16" is for GPUs; use one of the two'
        )
    graph = Graph(model)
    placement = place(graph, float_nodes)
    if half and graph.opset < 19:
        raise CalibrationError(
            f'fallback_dtype="float16" needs opset 19 or newer for its scales, the graph has opset {graph.opset}; '
            'export it with a newer opset or use fallback_dtype="float32"'
        )
    if isinstance(calibrated, Calibrated):
        equalise(graph, calibrated.channels)
        ranges: Mapping[str, Range] = calibrated.ranges if unsigned else calibrated.signed
        rounded = calibrated.rounded
    else:
        ranges, rounded = calibrated, {}
    pixels = find_pixels(graph) if unsigned else None
    if pixels is not None and (graph.array(pixels.factor) != 1).any():
        pixels = None  # the normalisation's factors are not in the weights
    _Writer(graph, placement, ranges, rounded, unsigned, half, pixels).run()
    result = graph.finish()
    return Quantized(to_fp16(result, keep_fp32) if half else result, placement)


class _Writer:
    """Writes the nodes and constants of a placement into its graph."""

    def __init__(
        self,
        graph: Graph,
        placement: Placement,
        ranges: Mapping[str, Range],
        rounded: Mapping[str, Rounded],
        unsigned: bool,
        half: bool,
        pixels: Pixels | None,
    ) -> None:
        self.graph = graph
        self.pixels = pixels
        self.placement = placement
        self.rounded = rounded
        self.dtype = np.float16 if half else np.float32
        self.edges = (*placement.edges, *placement.cpu_edges) if unsigned else placement.edges
        self.scale: dict[str, float] = {}
        self.zero: dict[str, NDArray[Any]] = {}
        for group in placement.scale_groups:
            joined = _joined(ranges, group)
            step = (joined.hi - joined.lo) / 255 if unsigned else joined.amax / 127
            scale = float(representable(np.array(step), self.dtype))
            zero = np.array(np.rint(-joined.lo / scale), np.uint8) if unsigned else np.array(0, np.int8)
            for name in group:
                self.scale[name], self.zero[name] = scale, zero

    def run(self) -> None:
        nodes = {n.name: n for n in self.graph.nodes}
        pairs: dict[str, str] = {}
        for name, k in self.edges:
            tensor = nodes[name].input[k]
            if self.pixels is not None and tensor == self.pixels.tensor:
                nodes[name].input[k], more = read_pixels(self.graph, self.pixels)
                self._weights(nodes[name], 1.0, self.pixels if more else None)
                continue
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

    def _weights(self, node: onnx.NodeProto, input_scale: float, pixels: Pixels | None = None) -> None:
        g = self.graph
        axis = output_axis(node)
        weights = g.array(node.input[1])
        found = self.rounded.get(node.name)
        if found is not None and found.change.shape != weights.shape:
            raise CalibrationError(
                f"{node.name!r} has weights of the shape {weights.shape}, its rounding is of {found.change.shape}; "
                "calibrate this graph again"
            )
        scales = (weight_scales(weights, axis, self.dtype) if found is None else found.scales).astype(np.float64)
        levels = nearest(weights, scales, axis)
        if found is not None:
            levels += found.change
        bias = g.array(node.input[2]) if len(node.input) > 2 and node.input[2] in g.initializers else np.zeros(0)
        if bias.shape == scales.shape:
            if found is not None:
                bias = bias + found.shift
                node.input[2] = g.add_initializer(bias, node.input[2])
            # CPU libraries store the bias as int32 in units of input scale * weight scale. A channel that is nearly
            # zero but has a bias would overflow it; such a channel loses nothing by a coarser scale.
            coarse = np.maximum(scales, np.abs(bias) / (input_scale * 2.0**30))
            if (coarse > scales).any():
                shape = [-1 if k == axis else 1 for k in range(weights.ndim)]
                coarse = representable(coarse, self.dtype)
                levels = np.where((coarse > scales).reshape(shape), nearest(weights, coarse, axis), levels)
                scales = coarse
        if pixels is not None:
            levels, rest = with_mean(levels, scales, pixels)
            if bias.shape != scales.shape:
                bias = np.zeros(len(scales), np.float32)
            node.input[2:] = [g.add_initializer((bias + rest).astype(np.float32), f"{node.input[1]}/bias")]
        name = node.input[1]
        inputs = [
            g.add_initializer(levels, f"{name}/int8"),
            g.add_initializer(scales.astype(np.float32), f"{name}/scale"),
            g.add_initializer(np.zeros(scales.shape, np.int8), f"{name}/zero"),
        ]
        back = g.fresh(f"{name}/dequantized")
        g.nodes.append(helper.make_node("DequantizeLinear", inputs, [back], name=f"{back}/dq", axis=axis))
        node.input[1] = back


def _joined(ranges: Mapping[str, Range], group: Collection[str]) -> Range:
    """The smallest range that contains those of all tensors of a group."""
    joined = Range(0.0, 0.0)
    for name in group:
        if name not in ranges:
            raise CalibrationError(f"no range for the tensor {name!r}; collect those of place(model).tensors")
        seen = ranges[name]
        if not (np.isfinite(seen.lo) and np.isfinite(seen.hi) and seen.lo <= 0 <= seen.hi):
            raise CalibrationError(f"the range of {name!r} is {seen}; it must be finite and contain zero")
        joined |= seen
    return joined
