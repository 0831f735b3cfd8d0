"""Graphs that do more than arithmetic are refused, and everything that onnx and PyTorch make of a network passes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.defs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from posert.runtime.backends.openvino import BACKEND as OPENVINO
from posert.runtime.bundle.archive import Bundle
from posert.runtime.bundle.onnx_scan import OPERATORS, check_graph

# Standard operators that are no arithmetic on arrays, or that no pose network has any use for.
LEFT_OUT = (
    *("If", "Loop", "Scan", "SequenceMap", "ImageDecoder", "RegexFullMatch", "TfIdfVectorizer", "StringNormalizer"),
    *("StringConcat", "StringSplit", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
    *("Bernoulli", "Multinomial", "RNN", "LSTM", "GRU", "Unique", "NonZero", "NonMaxSuppression", "Compress"),
)


def value(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2])


def graph(
    *nodes: onnx.NodeProto, weights: tuple[onnx.TensorProto, ...] = (), inputs: tuple[str, ...] = ("x",)
) -> onnx.ModelProto:
    made = helper.make_graph(list(nodes), "g", [value(name) for name in inputs], [value("y")], list(weights))
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def plain() -> onnx.ModelProto:
    weight = numpy_helper.from_array(np.ones((2, 2), np.float32), "w")
    return graph(
        helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Relu", ["m"], ["y"]), weights=(weight,)
    )


def test_all_operators_are_known_or_left_out_on_purpose() -> None:
    standard = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain in ("", "ai.onnx")}
    other = {name for name in standard if "Sequence" in name or name.startswith("Optional")} | set(LEFT_OUT)
    assert standard - other == OPERATORS & standard
    assert not OPERATORS & other
    with_graphs = {
        schema.name
        for schema in onnx.defs.get_all_schemas_with_history()
        if any(a.type in (onnx.defs.OpSchema.AttrType.GRAPH, onnx.defs.OpSchema.AttrType.GRAPHS)
               for a in schema.attributes.values())
    }  # fmt: skip
    assert with_graphs and not with_graphs & OPERATORS


def test_networks_pass(narrow_onnx: onnx.ModelProto, narrow_bundle: Path) -> None:
    check_graph(plain().SerializeToString())
    check_graph(narrow_onnx.SerializeToString())
    with Bundle(narrow_bundle) as bundle:
        bundle.check()
    old = plain()  # before IR 4 the weights were among the inputs
    old.graph.input.append(value("w"))
    check_graph(old.SerializeToString())


def external() -> onnx.ModelProto:
    model = plain()
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="weights.bin")
    return model


def external_constant() -> onnx.ModelProto:
    model = external()
    node = helper.make_node("Constant", [], ["w"])
    node.attribute.append(helper.make_attribute("value", model.graph.initializer[0]))
    return graph(node, helper.make_node("MatMul", ["x", "w"], ["y"]))


def function() -> onnx.ModelProto:
    model = graph(helper.make_node("Twice", ["x"], ["y"], domain="mine"))
    double = helper.make_node("Add", ["a", "a"], ["b"])
    model.functions.append(helper.make_function("mine", "Twice", ["a"], ["b"], [double], model.opset_import))
    return model


def loop() -> onnx.ModelProto:
    body = helper.make_graph([helper.make_node("Relu", ["a"], ["b"])], "body", [value("a")], [value("b")])
    return graph(helper.make_node("Loop", ["", "", "x"], ["y"], body=body))


def hidden_body() -> onnx.ModelProto:
    model = loop()
    model.graph.node[0].op_type = "Relu"
    return model


def sparse() -> onnx.ModelProto:
    model = plain()
    model.graph.sparse_initializer.add().values.name = "s"
    return model


def training() -> onnx.ModelProto:
    model = plain()
    model.training_info.add()
    return model


def outputs_gone() -> onnx.ModelProto:
    model = plain()
    model.graph.ClearField("output")
    return model


def of_the_future() -> onnx.ModelProto:
    model = plain()
    model.opset_import[0].version = 2**40
    return model


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (external, "weights lie in another file"),
        (external_constant, "weights lie in another file"),
        (function, "it has functions"),
        (loop, "its operator 'Loop' is none that computes"),
        (hidden_body, "its operator Relu holds a graph"),
        (sparse, "sparse weights"),
        (training, "training_info"),
        (outputs_gone, "1 inputs and 0 outputs"),
        (lambda: graph(helper.make_node("Relu", ["x"], ["y"], domain="com.microsoft")), "'Relu' is of 'com.microsoft'"),
        (lambda: graph(helper.make_node("Frobnicate", ["x"], ["y"])), "its operator 'Frobnicate'"),
        (lambda: graph(helper.make_node("Add", ["x", "z"], ["y"]), inputs=("x", "z")), "2 inputs and 1 outputs"),
        (lambda: graph(helper.make_node("Constant", [], ["y"]), inputs=()), "0 inputs"),
        (onnx.ModelProto, "0 graphs"),
        # OpenVINO would not come to an end with the next two
        (
            lambda: graph(helper.make_node("Add", ["x", "y"], ["y"])),
            "its operator Add reads 'y' before anything computes it",
        ),
        (of_the_future, "an operator set above 1000"),
        (lambda: graph(*[helper.make_node("Relu", ["x"], ["y"])] * 2), "two of its operators or weights give 'y'"),
        (lambda: graph(helper.make_node("Relu", ["x"], ["z"])), "nothing in it computes its output 'y'"),
    ],
)
def test_what_is_more_than_arithmetic(make: Callable[[], onnx.ModelProto], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_graph(make().SerializeToString())


def test_a_model_in_two_pieces_is_one_to_protobuf() -> None:
    """Messages may be split: a reader that looks at one part alone is fooled."""
    data = plain().SerializeToString() + onnx.ModelProto(graph=external().graph).SerializeToString()
    assert onnx.load_from_string(data).graph.initializer[1].data_location == TensorProto.EXTERNAL
    with pytest.raises(ValueError, match="2 graphs"):
        check_graph(data)


def test_openvino_would_read_the_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is why: from the folder that the program happens to run in."""
    (tmp_path / "weights.bin").write_bytes(np.full((2, 2), 7, np.float32).tobytes())
    monkeypatch.chdir(tmp_path)
    core: Any = OPENVINO.import_library().Core()
    try:
        compiled = core.compile_model(core.read_model(external().SerializeToString()), "CPU")
    except RuntimeError:
        pytest.skip("this release of OpenVINO refuses it by itself")
    assert compiled(np.ones((1, 2), np.float32))[0].tolist() == [[14, 14]]


@pytest.mark.parametrize(
    "data", [b"", b"<?xml version='1.0'?><net/>", b"\xff" * 40, b"\x3a\xff\xff\xff\xff\x0f", b"\0"]
)
def test_what_is_no_graph(data: bytes) -> None:
    with pytest.raises(ValueError, match="no ONNX graph|0 graphs"):
        check_graph(data)


@given(st.data())
def test_damage_is_refused_or_passes_onnx_too(data: st.DataObject) -> None:
    """Where the scan passes, no external weights and no strange operators are there for any reader."""
    spoiled = bytearray(data.draw(st.sampled_from([plain, external, loop, function]))().SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        spoiled[data.draw(st.integers(0, len(spoiled) - 1))] = data.draw(st.integers(0, 255))
    spoiled = spoiled[: data.draw(st.integers(len(spoiled) // 2, len(spoiled)))]
    try:
        check_graph(bytes(spoiled))
    except ValueError:
        return
    try:
        model = onnx.load_from_string(bytes(spoiled))
    except Exception:  # protobuf refuses what the scan does not look at, such as text that is not UTF-8
        return
    assert not model.functions and all(node.op_type in OPERATORS for node in model.graph.node)
    tensors = [*model.graph.initializer, *(a.t for node in model.graph.node for a in node.attribute)]
    assert not any(t.data_location or t.external_data for t in tensors)
    assert not any(a.HasField("g") or a.graphs for node in model.graph.node for a in node.attribute)
