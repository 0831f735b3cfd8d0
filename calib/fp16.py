"""Float16 by casting the graph: every weight and activation, with one Cast at the input and one at the output.

Two alternatives were tried and are worse: converters that keep Resize in float32 wrap each one in two Casts, which run
as kernels of their own, and exporting a halved network rounds the weights before batch-norm is folded in. What stays
float32 here, and why:

* the normalisation of the input: its mean (about 120) has a float16 step of 1/16, a loss for nothing;
* roi and scales of Resize: the operator defines them as float32;
* graph inputs and outputs: callers need not know what the graph computes in;
* nodes named in `keep_fp32`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

from ..runtime.errors import CalibrationError
from ..runtime.registry import unknown_name
from .graph import Graph, attribute, float_tensors
from .observers import Range

_LARGEST = float(np.finfo(np.float16).max)
_HEADROOM = 2.0  # images outside the calibration set may reach larger activations
_QDQ_HALF_OPSET = 19  # QuantizeLinear and DequantizeLinear take float16 scales from here on


def to_fp16(model: onnx.ModelProto, keep_fp32: Collection[str] = ()) -> onnx.ModelProto:
    """Cast a float32 network to float16; float32 graph inputs and outputs stay float32.

    A graph with Q/DQ nodes is cast too (opset 19 and up): scales become float16 and everything between the
    quantised layers computes in float16.

    Args:
        model: a float32 graph of convolutional operators, with its constants embedded.
        keep_fp32: names of nodes that stay float32; each costs Casts around it.

    Returns:
        A new model that passes the full ONNX check; `model` is not changed.

    Raises:
        CalibrationError: a constant is too large for float16 (it is named), a name in `keep_fp32` is unknown, the graph
            has Q/DQ below opset 19, or control flow.
    """
    graph = Graph(model)
    names = [n.name for n in graph.nodes]
    for name in keep_fp32:
        if name not in names:
            raise CalibrationError(unknown_name("node", name, names))
    quantized = [n for n in graph.nodes if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    if quantized and graph.opset < _QDQ_HALF_OPSET:
        raise CalibrationError(
            f"the graph has Q/DQ nodes and opset {graph.opset}; float16 scales need opset {_QDQ_HALF_OPSET} or newer. "
            "Export with a newer opset, or keep everything that is not int8 in float32."
        )
    _Caster(graph, set(keep_fp32)).run()
    return graph.finish()


def overflows(model: onnx.ModelProto, ranges: Mapping[str, Range]) -> dict[str, str]:
    """Nodes that must stay float32 because an activation would overflow, each with the reason; for `keep_fp32`.

    `ranges` are those of `activations(model)`, collected over calibration crops.
    """
    graph = Graph(model)
    keep: dict[str, str] = {}
    for name in activations(model):
        if name in ranges and ranges[name].amax > _LARGEST / _HEADROOM:
            reason = f"{name} reaches {ranges[name].amax:.3g}; the largest float16 is {_LARGEST:.0f}"
            for node in (graph.producer[name], *(n for n, _ in graph.consumers.get(name, []))):
                keep.setdefault(node.name, reason)
    return keep


def activations(model: onnx.ModelProto) -> list[str]:
    """The float32 tensors that `to_fp16` would make float16, in the order in which they are computed."""
    graph = Graph(model)
    floats, preprocessing = float_tensors(graph.model), graph.preprocessing()
    return [o for n in graph.nodes for o in n.output if o in floats and o not in preprocessing]


class _Caster:
    """Decides the type of each node, then inserts Casts where a float32 and a float16 node meet."""

    def __init__(self, graph: Graph, keep: set[str]) -> None:
        self.graph = graph
        self.floats = set(float_tensors(graph.model)) | {
            t.name for t in graph.initializers.values() if t.data_type == TensorProto.FLOAT
        }
        preprocessing = graph.preprocessing()
        self.fp32_nodes = {n.name for n in graph.nodes if n.name in keep or n.output[0] in preprocessing}
        # Quantising straight from a float32 tensor saves a Cast: int8 has no float type.
        for n in graph.nodes:
            if n.op_type == "QuantizeLinear" and self._is_fp32(n.input[0]):
                self.fp32_nodes.add(n.name)
            elif n.op_type == "DequantizeLinear":
                readers = [r for r, _ in graph.consumers.get(n.output[0], [])]
                if readers and all(r.name in self.fp32_nodes for r in readers):
                    self.fp32_nodes.add(n.name)
        self.casts: dict[tuple[str, bool], str] = {}
        self.new: list[onnx.NodeProto] = []

    def run(self) -> None:
        for output in self.graph.outputs:
            if output in self.floats and not self._is_fp32(output):
                self._cast_output(output)
        for node in list(self.graph.nodes):
            fp32 = node.name in self.fp32_nodes
            for k, name in enumerate(node.input):
                # Only the image of a Resize has the type of the graph; roi and scales are float32 by definition.
                if name in self.floats and not (node.op_type == "Resize" and k > 0):
                    node.input[k] = self._as(name, fp32)
            if not fp32 and node.op_type == "Cast" and attribute(node, "to") == TensorProto.FLOAT:
                node.attribute[0].i = TensorProto.FLOAT16
        self.graph.nodes.extend(self.new)

    def _is_fp32(self, name: str) -> bool:
        """Whether a tensor is float32 as its producer writes it."""
        producer = self.graph.producer.get(name)
        return producer is None or producer.name in self.fp32_nodes

    def _as(self, name: str, fp32: bool) -> str:
        """The tensor in the wanted type: itself, a copy of the constant, or behind a Cast that all readers share."""
        if self._is_fp32(name) == fp32:
            return name
        if (name, fp32) not in self.casts:
            if name in self.graph.initializers:
                self.casts[name, fp32] = self._halve_constant(name)
            else:
                suffix, to = ("float32", TensorProto.FLOAT) if fp32 else ("float16", TensorProto.FLOAT16)
                cast = self.graph.fresh(f"{name}/{suffix}")
                self.new.append(helper.make_node("Cast", [name], [cast], name=self.graph.fresh(f"{cast}/cast"), to=to))
                self.casts[name, fp32] = cast
        return self.casts[name, fp32]

    def _halve_constant(self, name: str) -> str:
        values = self.graph.array(name)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.isfinite(half).all():
            readers = ", ".join(repr(n.name) for n, _ in self.graph.consumers[name])
            raise CalibrationError(
                f"initializer {name!r} has values up to {np.abs(values).max():.4g}; the largest float16 is 65504. "
                f"Keep its node in float32: keep_fp32=[{readers}]."
            )
        return self.graph.add_initializer(half, f"{name}/float16")

    def _cast_output(self, output: str) -> None:
        """The graph output keeps its name and its float32 type; what the network computes gets a new name."""
        half = self.graph.fresh(f"{output}/float16")
        producer = self.graph.producer.pop(output)
        producer.output[list(producer.output).index(output)] = half
        self.graph.producer[half] = producer
        self.floats.add(half)
        cast = helper.make_node("Cast", [half], [output], name=self.graph.fresh(f"{output}/cast"), to=TensorProto.FLOAT)
        self.new.append(cast)
        self.graph.producer[output] = cast
        self.fp32_nodes.add(cast.name)
        for node, k in self.graph.consumers.get(output, []):
            node.input[k] = half
