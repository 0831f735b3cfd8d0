"""Graphs that do something else, under a right seal: other inputs, operators, shapes, files, loops, gigabytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from posert.tests.campaign import material
from posert.tests.campaign.bundles import Uses, members, sealed
from posert.tests.campaign.case import Case, Part, Run
from posert.tests.campaign.huge import Model, after, constant, huge
from posert.tests.campaign.mutate import NUMBERS, TEXTS, Rng, change_bytes, pick
from posert.tests.campaign.watch import DECOYS

_SIZES = (0, 1, -1, 2, 3, 16, 17, 34, 4096, 65536, 2**20, 2**31 - 1, 2**31, 2**33, 2**40, 2**62, -(2**62))
_OPERATORS = (
    "Relu",
    "Identity",
    "Neg",
    "Exp",
    "Log",
    "Sqrt",
    "Reciprocal",
    "Flatten",
    "Shape",
    "Softmax",
    "Transpose",
    "Sigmoid",
    "Cast",
    "Size",
    "Div",
    "Pow",
    "ReduceSum",
    "ArgMax",
    "GlobalAveragePool",
    "MaxPool",
    "Not",
    "NonZero",
    "RandomNormalLike",
    "LSTM",
    "ConcatFromSequence",
    "Compress",
    "MyOperator",
    "",
)


def _io(rng: Rng, model: Model) -> None:
    graph = model.graph
    value = pick(rng, [*graph.input, *graph.output])
    way = str(rng.choice(["size", "size", "symbol", "kind", "rank", "more", "fewer", "name", "none"]))
    dims = value.type.tensor_type.shape.dim
    if way == "size":
        pick(rng, list(dims)).dim_value = pick(rng, _SIZES)
    elif way == "symbol":
        pick(rng, list(dims)).dim_param = pick(rng, ("N", "M", ""))
    elif way == "kind":
        value.type.tensor_type.elem_type = int(rng.integers(0, 25))
    elif way == "rank":
        del dims[int(rng.integers(len(dims)))]
    elif way == "more":
        pick(rng, (graph.input, graph.output)).append(
            helper.make_tensor_value_info(pick(rng, ("r1", "w1", "x", "crops")), 1, [1, 2])
        )
    elif way == "fewer":
        del pick(rng, (graph.input, graph.output))[:]
    elif way == "name":
        value.name = pick(rng, ("images", "r1", "", "w1", *TEXTS[:6]))
    else:
        value.ClearField("type")


def _weights(rng: Rng, model: Model) -> None:
    weight = pick(rng, model.graph.initializer)
    array = numpy_helper.to_array(weight)
    way = str(rng.choice(["values", "values", "dims", "cut", "kind", "shape", "name", "twice"]))
    if way == "values":
        array = array.copy().ravel()
        array[rng.integers(array.size, size=int(rng.choice([1, array.size])))] = pick(
            rng, [float(min(n, 3e38)) for n in NUMBERS[-12:]]
        )
        weight.CopyFrom(numpy_helper.from_array(array.reshape(weight.dims).astype(np.float32), weight.name))
    elif way == "dims":
        weight.dims[int(rng.integers(len(weight.dims)))] = pick(rng, _SIZES)
    elif way == "cut":
        weight.raw_data = weight.raw_data[: int(rng.integers(len(weight.raw_data)))]
    elif way == "kind":
        weight.data_type = int(rng.integers(0, 25))
    elif way == "shape":
        weight.CopyFrom(
            numpy_helper.from_array(np.resize(array, rng.integers(1, 9, size=int(rng.integers(0, 6)))), weight.name)
        )
    elif way == "name":
        weight.name = pick(rng, ("", "w1", "crops", "heatmaps"))
    else:
        model.graph.initializer.append(weight)


def _nodes(rng: Rng, model: Model) -> None:
    nodes = model.graph.node
    at = int(rng.integers(len(nodes)))
    node = nodes[at]
    way = str(
        rng.choice(["kind", "domain", "input", "cycle", "attribute", "attribute", "remove", "twice", "order", "opset"])
    )
    if way == "kind":
        node.op_type = pick(rng, _OPERATORS)
    elif way == "domain":
        node.domain = pick(rng, ("com.microsoft", "ai.onnx.ml", "custom", "ai.onnx", "../x"))
    elif way == "input":
        node.input[int(rng.integers(len(node.input)))] = pick(rng, ("", "crops", "w1", "b1", "nowhere", "r1"))
    elif way == "cycle":
        node.input[0] = node.output[0]
    elif way == "attribute":
        name = pick(rng, ("strides", "pads", "dilations", "group", "perm", "to", "axis", "kernel_shape", "auto_pad"))
        values = [pick(rng, _SIZES) for _ in range(int(rng.integers(1, 6)))]
        node.attribute.append(helper.make_attribute(name, pick(rng, (values, values[0], "SAME_UPPER", 0.5))))
    elif way == "remove":
        del nodes[at]
    elif way == "twice":
        nodes.append(node)
    elif way == "order":
        order = list(nodes)
        del nodes[:]
        nodes.extend([order[i] for i in rng.permutation(len(order))])
    else:
        model.opset_import[0].version = pick(rng, (0, 1, 7, 13, 23, 99, 1000, 2**40, -1))
        model.ir_version = pick(rng, (0, 3, 9, 13, 99, 2**40))


def _outside(rng: Rng, model: Model) -> None:
    """Weights that lie in a file."""
    weight = pick(rng, model.graph.initializer)
    folder = Path.cwd()
    where = pick(
        rng,
        (
            DECOYS[0],
            DECOYS[1],
            f"./{DECOYS[0]}",
            f"{folder}/{DECOYS[2]}",
            f"../{folder.name}/{DECOYS[0]}",
            "*",
            "/dev/zero",
            "",
        ),
    )
    keys = {"location": where, "offset": "0", "length": pick(rng, ("864", "0", "-1", "99999999999"))}
    for key, value in list(keys.items())[: int(rng.integers(1, 4))]:
        weight.external_data.add(key=key, value=value)
    if rng.random() < 0.8:
        weight.ClearField("raw_data")
    if rng.random() < 0.8:
        weight.data_location = TensorProto.EXTERNAL
    if rng.random() < 0.3:  # in a Constant
        node = helper.make_node("Constant", [], [weight.name])
        node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t.CopyFrom(weight)
        model.graph.initializer.remove(weight)
        model.graph.node.insert(0, node)


def _control(rng: Rng, model: Model) -> None:
    """Loops, branches and functions."""
    flag = helper.make_tensor_value_info("go", TensorProto.BOOL, [])
    value = helper.make_tensor_value_info("v", TensorProto.FLOAT, None)
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["again"]), helper.make_node("Relu", ["v"], ["w"])],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), flag, value],
        [helper.make_tensor_value_info("again", TensorProto.BOOL, []), helper.make_tensor_value_info("w", 1, None)],
    )
    way = str(rng.choice(["loop", "if", "function", "doubling", "hidden"]))
    if way == "loop":
        constant(model, "many", 2**62)
        constant(model, "yes", True, np.bool_)
        after(model, helper.make_node("Loop", ["many", "yes", "before"], ["heatmaps"], body=body))
    elif way == "if":
        constant(model, "yes", True, np.bool_)
        then = helper.make_graph(
            [helper.make_node("Relu", ["before"], ["z"])], "t", [], [helper.make_tensor_value_info("z", 1, None)]
        )
        after(model, helper.make_node("If", ["yes"], ["heatmaps"], then_branch=then, else_branch=then))
    elif way == "hidden":
        node = helper.make_node(pick(rng, ("Relu", "Identity", "Conv")), ["before"], ["heatmaps"])
        node.attribute.append(helper.make_attribute("body", body))
        after(model, node)
    else:
        domain, levels = "mine", 1 if way == "function" else 40
        model.opset_import.append(helper.make_opsetid(domain, 1))
        for level in range(levels):
            inner = (
                [helper.make_node("Relu", ["a"], ["b"])]
                if level == 0
                else [
                    helper.make_node(f"F{level - 1}", ["a"], ["c"], domain=domain),
                    helper.make_node(f"F{level - 1}", ["c"], ["b"], domain=domain),
                ]
            )
            opsets = [helper.make_opsetid("", 19), helper.make_opsetid(domain, 1)]
            model.functions.append(helper.make_function(domain, f"F{level}", ["a"], ["b"], inner, opsets))
        after(model, helper.make_node(f"F{levels - 1}", ["before"], ["heatmaps"], domain=domain))


_WAYS: dict[str, Callable[[Rng, Model], None]] = {
    "io": _io,
    "weights": _weights,
    "nodes": _nodes,
    "outside": _outside,
    "control": _control,
    "huge": huge,
}


def open_part(folder: Path) -> Run:
    held = members(material.bundle(folder, script=True))
    uses = Uses(folder, ("openvino", "onnxruntime"))

    def run(case: Case) -> str:
        rng = case.rng
        way = str(rng.choice([*_WAYS, "io", "nodes", "nodes", "weights", "bytes", "script"]))
        case.done.append(way)
        name = "torchscript.pt" if way == "script" else "fp32.onnx"
        if way in ("bytes", "script"):
            data = change_bytes(rng, held[name], case.done)
        else:
            model = material.network()
            before = [str(n) for n in model.graph.node]
            _WAYS[way](rng, model)
            case.done.append(" ".join(n.op_type for n in model.graph.node if str(n) not in before)[:80])
            data = model.SerializeToString()
        return uses.any_of(case, case.write("case.pose", sealed({**held, name: data})), whole=False)

    return run


PART = Part("bundle_graphs", "re-sealed bundles whose graphs do something else", 6000, 60, open_part)
