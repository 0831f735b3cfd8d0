"""Graphs that anybody may have written are refused before anything is made of them."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from posert.export.graph.read import read_graph
from posert.runtime.errors import InputError


def graph(batch: int | str) -> onnx.ModelProto:
    given, found = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 3]) for name in "xy")
    made = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [given], [found])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def test_a_graph() -> None:
    model = graph("N")
    assert read_graph(model.SerializeToString(), "a.onnx") == model


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "a.onnx: "),
        (b"words", "a.onnx: no valid ONNX graph"),
        (graph("N").SerializeToString().replace(b"Relu", b"Rel\xff"), "a.onnx: no valid ONNX graph"),
        (graph("N").SerializeToString().replace(b"\x01g", b"\x01\xfe"), r"a.onnx: .* the name b'\\xfe' is not UTF-8"),
        (graph("N").SerializeToString().replace(b"\x01y", b"\x01\xfe"), r"a.onnx: .* the name b'\\xfe' is not UTF-8"),
        (graph(1 << 62).SerializeToString(), r"a.onnx: 'x' has the sizes \[4611686018427387904, 3\]"),
    ],
)
def test_what_is_none(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_graph(data, "a.onnx")
