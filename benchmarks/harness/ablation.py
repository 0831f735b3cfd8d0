"""One way of calibrating, run in a process of its own so that its memory is its own: what `calibration` compares."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import onnx
from onnx import helper

from ...calib.bias import correct_bias
from ...calib.equalize import equalize
from ...calib.fp16 import to_fp16
from ...calib.graph import Graph
from ...calib.methods import entropy
from ...calib.methods import method as find_method
from ...calib.placement import LAYERS
from ...calib.qdq import place, quantize
from ...calib.ranges import collect, observe
from ...runtime.bundle.contract import Contract

_BATCH = 8


def float16(model: str, crops: str, target: str) -> float:
    """The fp16 graph; needs no crops. Seconds from reading the float32 graph to having written this one."""
    start = time.perf_counter()
    onnx.save(to_fp16(onnx.load(model)), target)
    return time.perf_counter() - start


def int8(
    model: str,
    crops: str,
    target: str,
    contract: Mapping[str, Any],
    method: str,
    unsigned: bool,
    equal: bool = False,
    bias: bool = False,
    only: Literal["weights", "activations"] | None = None,
    output: bool = False,
) -> float:
    """An int8 graph; seconds from reading the float32 graph to having written this one.

    Args:
        model, crops, target: files: the graph, crops `(N, H, W, 3)` uint8, what to write.
        contract: of the network, as JSON values.
        method: of `ranges.collect`.
        unsigned: the twin for CPUs.
        equal: with channels brought nearer to each other first.
        bias: with biases corrected.
        only: quantise nothing else.
        output: quantise the heatmaps too, by entropy: the trap.
    """
    start = time.perf_counter()
    known = np.load(crops, mmap_mode="r")
    batches = [known[i : i + _BATCH] for i in range(0, len(known), _BATCH)]
    fp32 = onnx.load(model)
    if equal:
        fp32 = equalize(fp32, batches)
    ranges = collect(fp32, batches, place(fp32).tensors, method, contract=Contract.from_json(dict(contract)))
    if bias:
        fp32 = correct_bias(fp32, ranges, batches, unsigned=unsigned)
    made = quantize(fp32, ranges, unsigned=unsigned).model
    if only is not None:
        made = _only(fp32, made, only)
    if output:
        heatmaps = fp32.graph.output[0].name
        seen = observe(fp32, batches, [heatmaps], find_method("entropy")[0])[heatmaps]
        made = with_quantized_output(made, entropy(seen).amax / 127)
    onnx.save(made, target)
    return time.perf_counter() - start


def with_quantized_output(model: onnx.ModelProto, scale: float) -> onnx.ModelProto:
    """The graph with its output through int8 once more, which posert itself never does."""
    graph = Graph(model)
    (name,) = graph.outputs
    inner = graph.fresh(f"{name}/float")
    for node in graph.nodes:
        node.output[:] = [inner if o == name else o for o in node.output]
        node.input[:] = [inner if i == name else i for i in node.input]
    pair = [
        graph.add_initializer(np.array(scale, np.float32), f"{name}/scale"),
        graph.add_initializer(np.array(0, np.int8), f"{name}/zero"),
    ]
    levels = graph.fresh(f"{name}/int8")
    return graph.finish(
        [
            helper.make_node("QuantizeLinear", [inner, *pair], [levels], name=levels),
            helper.make_node("DequantizeLinear", [levels, *pair], [name], name=f"{name}/dq"),
        ]
    )


def _only(fp32: onnx.ModelProto, int8_model: onnx.ModelProto, kept: str) -> onnx.ModelProto:
    """The int8 graph with either its activations or its weights in float again."""
    source, graph = Graph(fp32), Graph(int8_model)
    weights = {n.name: n.input[1] for n in source.nodes if n.op_type in LAYERS}
    for node in graph.nodes:
        for k, name in enumerate(node.input):
            back = graph.producer.get(name)
            if node.op_type == "QuantizeLinear" or back is None or back.op_type != "DequantizeLinear":
                continue
            rounded = graph.producer.get(back.input[0])
            if rounded is not None and kept == "weights":
                node.input[k] = rounded.input[0]
            elif rounded is None and kept == "activations":
                node.input[k] = graph.add_initializer(source.array(weights[node.name]), weights[node.name])
    used = {name for n in graph.nodes for name in n.input} | set(graph.outputs)
    while idle := [n for n in graph.nodes if not used.intersection(n.output)]:
        graph.nodes = [n for n in graph.nodes if n not in idle]
        used = {name for n in graph.nodes for name in n.input} | set(graph.outputs)
    return graph.finish()
