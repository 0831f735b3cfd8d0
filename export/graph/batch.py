"""A graph for any number of images, from one that was exported for a fixed batch or for a dynamic one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference
from onnxscript import optimizer

from ...runtime.errors import InputError
from .to_onnx import run


def free_batch(path: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with N images in and N of each output out; sizes that follow from H and W become constants.

    Args:
        path: of the file, for messages.
        model: its one input is declared `[1, 3, H, W]`.

    Raises:
        InputError: it does not run on two images, and no node that is known to fix the batch explains it.
    """
    freed = onnx.ModelProto()
    freed.CopyFrom(model)
    shape = _declare_n(freed)
    reason = _refusal(freed, shape)
    if reason is not None:
        _free_nodes(freed, shape_inference.infer_shapes(model))
        reason = _refusal(freed, shape)
    if reason is not None:
        raise InputError(
            f"{path} was exported for a batch of one, and does not run on two images ({reason}); export it with a "
            'dynamic batch: torch.onnx.export(..., dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}})'
        )
    return optimizer.optimize(freed)


def _declare_n(model: onnx.ModelProto) -> list[int]:
    """Declare the first dimension of all that goes in and out as N; returns the input's shape for two images."""
    graph = model.graph
    del graph.value_info[:]  # of one image
    shape = [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim]
    graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    for value in graph.output:
        dims = value.type.tensor_type.shape.dim
        count = len(dims)
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, ["N", *[None] * (count - 1)]))
    return [2, *shape[1:]]


def _refusal(model: onnx.ModelProto, shape: list[int]) -> str | None:
    """Why a graph does not give two results for two images, None where it does."""
    try:
        found = run(model, {model.graph.input[0].name: np.zeros(shape, np.float32)})
    except Exception as error:  # the library's exceptions have no class in common
        return str(error).strip().splitlines()[0]
    short = [str(output.shape) for output in found if len(output) != 2]
    return f"it gives {', '.join(short)}" if short else None


def _free_nodes(model: onnx.ModelProto, inferred: onnx.ModelProto) -> None:
    """Rewrite the constants by which Reshape and Resize fix a batch of one."""
    graph = model.graph
    values = (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    added: list[tuple[onnx.NodeProto, list[onnx.NodeProto]]] = []
    for node in graph.node:
        if node.op_type == "Reshape" and node.input[1] in constants:
            target = constants[node.input[1]].copy()
            if target.ndim == 1 and len(target) and target[0] == 1:
                # -1: what is left; where that stands elsewhere 0: the batch of the input
                target[0] = 0 if -1 in target else -1
                if target[0] == -1 or shapes.get(node.input[0], [0])[0] == 1:
                    node.input[1] = _constant(graph, f"{node.output[0]}.shape", target)
        elif node.op_type == "Resize" and len(node.input) > 3 and node.input[3] in constants:
            sizes = constants[node.input[3]]
            if len(sizes) and sizes[0] == 1:
                stem = f"{node.output[0]}.sizes"
                steps = [
                    helper.make_node("Shape", [node.input[0]], [f"{stem}.batch"], start=0, end=1),
                    helper.make_node(
                        "Concat", [f"{stem}.batch", _constant(graph, f"{stem}.rest", sizes[1:])], [stem], axis=0
                    ),
                ]
                added.append((node, steps))
                node.input[3] = stem
    nodes = list(graph.node)
    for node, steps in added:
        at = nodes.index(node)
        nodes[at:at] = steps
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(nodes)


def _constant(graph: onnx.GraphProto, name: str, values: np.ndarray) -> str:
    graph.initializer.append(numpy_helper.from_array(values.astype(np.int64), name))
    return name
