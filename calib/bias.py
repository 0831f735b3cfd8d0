"""Biases that make up for what quantisation shifts on average.

Rounding a channel's weights and clipping its input move the channel's outputs by a mean that does not average out over
positions and that the next layer adds up. It can be measured and taken off the bias, which is float and costs nothing
at run time (Nagel et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019). Each
layer is measured behind the float network's activations, so one pass serves all and none corrects what an earlier
layer does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper

from ..runtime.errors import CalibrationError
from .graph import Graph
from .histogram import Range
from .qdq import Quantized, quantize


def correct_bias(
    model: onnx.ModelProto,
    ranges: Mapping[str, Range],
    batches: Iterable[NDArray[Any]],
    *,
    float_nodes: Collection[str] = (),
    unsigned: bool = False,
    progress: Callable[[int], None] | None = None,
    threads: int = 0,
) -> onnx.ModelProto:
    """The same float32 network with the biases that its quantised form should have; quantise it with the same ranges.

    Args:
        model: float32 graph with batch-norm folded and one input of crops; not changed.
        ranges, float_nodes, unsigned: as for `qdq.quantize`.
        batches: calibration crops, as for `ranges.collect`.
        progress: called with the number of crops done so far.
        threads: of the network; 0 takes all cores.

    Raises:
        CalibrationError: as for `qdq.quantize`; no crops, or values that are not finite (the layer is named).
    """
    session, layers = _session(model, quantize(model, ranges, float_nodes=float_nodes, unsigned=unsigned), threads)
    source = session.get_inputs()[0].name
    total: list[Any] = [0.0] * len(layers)
    done = 0
    for crop in (batch[i : i + 1] for batch in batches for i in range(len(batch))):
        # One at a time: most outputs of all layers are alive at once.
        for k, mean in enumerate(session.run(list(layers.values()), {source: crop})):
            total[k] = total[k] + mean.astype(np.float64).reshape(-1)
        done += 1
        if progress is not None:
            progress(done)
    if not done:
        raise CalibrationError("the calibration set is empty: biases need at least one crop; a few hundred are usual")
    graph = Graph(model)
    nodes = {n.name: n for n in graph.nodes}
    for name, shift in zip(layers, total, strict=True):
        if not np.isfinite(shift).all():
            raise CalibrationError(f"layer {name!r} gives NaN or infinity on calibration crops; check its weights")
        node = nodes[name]
        has = len(node.input) > 2 and node.input[2]
        old = graph.array(node.input[2]) if has else 0.0
        bias = graph.add_initializer((old - shift / done).astype(np.float32), f"{node.input[1]}/bias")
        node.input[:] = [*node.input[:2], bias]
    return graph.finish()


def _session(
    model: onnx.ModelProto, quantized: Quantized, threads: int
) -> tuple[onnxruntime.InferenceSession, dict[str, str]]:
    """What measures the shifts, and the name of the shift by layer; nothing else is kept of the graphs."""
    beside, layers = _beside(Graph(model), quantized)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Integer kernels would take a second form of the bias, which is what is being measured.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.enable_cpu_mem_arena = False
    data = beside.SerializeToString()
    del beside
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"]), layers


def _beside(graph: Graph, quantized: Quantized) -> tuple[onnx.ModelProto, dict[str, str]]:
    """The float network with each layer a second time, quantised, and the mean difference `(N, C, 1, 1)` by layer.

    `graph` is used up. Names of the quantised graph are free in the float one, from which it was made.
    """
    second = Graph(quantized.model)
    mine = {n.name: n for n in graph.nodes}
    copied: dict[str, onnx.NodeProto] = {}
    shifts: dict[str, str] = {}

    def copy(tensor: str) -> None:
        if tensor in second.initializers:
            if tensor not in graph.initializers:
                graph.add_initializer(second.array(tensor), tensor)
            return
        node = second.producer.get(tensor)
        if node is not None and node.op_type in ("QuantizeLinear", "DequantizeLinear") and tensor not in copied:
            copied[tensor] = node
            for name in node.input:
                copy(name)

    added: list[onnx.NodeProto] = []
    for node in second.nodes:
        if node.name not in quantized.placement.layers:
            continue
        for name in node.input:
            copy(name)
        float_output = mine[node.name].output[0]
        twin = onnx.NodeProto()
        twin.CopyFrom(node)
        twin.name = twin.output[0] = graph.fresh(f"{node.name}/quantized")
        difference, shift = graph.fresh(f"{node.name}/difference"), graph.fresh(f"{node.name}/shift")
        added += [
            twin,
            helper.make_node("Sub", [twin.output[0], float_output], [difference], name=difference),
            helper.make_node("GlobalAveragePool", [difference], [shift], name=shift),
        ]
        shifts[node.name] = shift
    graph.model.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None] * 4) for name in shifts.values()
    )
    graph.outputs = [o.name for o in graph.model.graph.output]
    return graph.finish([*copied.values(), *added]), shifts
