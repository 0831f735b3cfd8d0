"""Graphs of a few hundred bytes that ask for gigabytes."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from posert.tests.campaign.mutate import Rng

Model = onnx.ModelProto


def constant(model: Model, name: str, values: object, kind: type = np.int64) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.array(values, kind), name))
    return name


def after(model: Model, *nodes: onnx.NodeProto) -> None:
    """Nodes from `before` to `heatmaps` at the graph's end."""
    model.graph.node[-1].output[0] = "before"
    model.graph.node.extend(nodes)


def huge(rng: Rng, model: Model) -> None:
    """Few bytes that ask for gigabytes, whose mean is added to the maps."""
    size = int(rng.choice([10**9, 2 * 10**9, 10**10, 2**40]))
    side = round(size**0.5)
    way = str(
        rng.choice(
            [
                "fill",
                "expand",
                "tile",
                "range",
                "pad",
                "resize",
                "outer",
                "concat",
                "conv",
                "onehot",
                "matmul",
                "eye",
                "batch",
            ]
        )
    )
    nodes: list[onnx.NodeProto] = []
    node = helper.make_node
    one = constant(model, "one", [1.0], np.float32)
    if way == "fill":
        nodes.append(node("ConstantOfShape", [constant(model, "size", [size])], ["huge"]))
    elif way == "expand":
        nodes.append(node("Expand", [one, constant(model, "size", [side, side])], ["huge"]))
    elif way == "tile":
        nodes.append(node("Tile", [one, constant(model, "size", [size])], ["huge"]))
    elif way == "range":
        ends = [constant(model, n, v, np.float32) for n, v in (("from", 0), ("to", size), ("step", 1))]
        nodes.append(node("Range", ends, ["huge"]))
    elif way == "pad":
        nodes.append(node("Pad", [one, constant(model, "size", [0, size])], ["huge"]))
    elif way == "resize":
        constant(model, "scales", [1, 1, side / 16, side / 12], np.float32)
        nodes.append(node("Resize", ["before", "", "scales"], ["huge"], mode="nearest"))
    elif way in ("outer", "matmul"):
        nodes += [
            node("ConstantOfShape", [constant(model, "long", [side, 1])], ["column"]),
            node("ConstantOfShape", [constant(model, "wide", [1, side])], ["row"]),
            node("MatMul" if way == "matmul" else "Add", ["column", "row"], ["huge"]),
        ]
    elif way == "concat":
        last = "before"
        for level in range(int(rng.integers(20, 45))):
            nodes.append(node("Concat", [last, last], [f"d{level}"], axis=1))
            last = f"d{level}"
        nodes.append(node("Identity", [last], ["huge"]))
    elif way == "conv":
        pads = [side // 2] * 4
        nodes += [
            node("ReduceMean", ["before"], ["thin"], axes=[1]),
            node("MaxPool", ["thin"], ["huge"], kernel_shape=[1, 1], pads=pads),
        ]
        model.opset_import[0].version = 17
    elif way == "onehot":
        constant(model, "depth", [size])
        constant(model, "values", [0.0, 1.0], np.float32)
        nodes.append(node("OneHot", [constant(model, "which", [1]), "depth", "values"], ["huge"]))
    elif way == "eye":
        nodes += [
            node("ConstantOfShape", [constant(model, "size", [side, 2])], ["plane"]),
            node("Transpose", ["plane"], ["turned"], perm=[1, 0]),
            node("MatMul", ["plane", "turned"], ["huge"]),
        ]
    else:  # as many rows as the batch has, a million times
        constant(model, "times", [size // 3000, 1, 1, 1])
        nodes.append(node("Tile", ["before", "times"], ["huge"]))
    after(
        model, *nodes, node("ReduceMax", ["huge"], ["most"], keepdims=0), node("Add", ["before", "most"], ["heatmaps"])
    )
