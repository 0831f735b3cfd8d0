"""Graphs that ask for more memory than any network of poses needs are refused, and take nothing from others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from posert.runtime.backends import load_backend
from posert.runtime.errors import BackendError
from posert.runtime.system.memory import peak_mb, resident_mb


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("detector", [False, True])
def test_a_few_bytes_that_ask_for_gigabytes(backend: str, detector: bool, tmp_path: Path) -> None:
    size = numpy_helper.from_array(np.array([20_000_000_000]), "size")
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ConstantOfShape", ["size"], ["huge"]),
        helper.make_node("ReduceMax", ["huge"], ["most"], keepdims=0),
        helper.make_node("Add", ["f", "most"], ["y"]),
    ]
    given, found = (helper.make_tensor_value_info(n, t, ["N", 4, 4, 3]) for n, t in (("x", 2), ("y", 1)))
    made = helper.make_graph(nodes, "g", [given], [found], [size])
    data = helper.make_model(made, opset_imports=[helper.make_opsetid("", 19)], ir_version=9).SerializeToString()
    spec = load_backend(backend)
    before = peak_mb() or 0.0
    with pytest.raises(BackendError):
        if detector:
            assert spec.open_graph is not None
            request = spec.open_graph(data).requests()[0]
            request.start([np.zeros((1, 4, 4, 3), np.uint8)])
            request.wait()
        else:
            spec.open(data, "fp32").infer(np.zeros((1, 4, 4, 3), np.uint8))
    assert (peak_mb() or 0.0) - before < 1000


def test_a_batch_that_asks_for_gigabytes() -> None:
    node = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
    sizes = [1 << 22, 4, 4, 3]
    given, found = (helper.make_tensor_value_info(n, t, sizes) for n, t in (("x", 2), ("y", 1)))
    made = helper.make_graph([node], "g", [given], [found])
    data = helper.make_model(made, opset_imports=[helper.make_opsetid("", 19)], ir_version=9).SerializeToString()
    with pytest.raises(BackendError, match="expected at most 0.5 GB in an array"):
        load_backend("openvino").open(data, "fp32")


def test_a_graph_that_took_all_memory_leaves_none_to_the_next(tmp_path: Path) -> None:
    """ONNX Runtime shares one bound between sessions, and forgets it for those that open while all of it is taken."""

    def graph(nodes: list[onnx.NodeProto], **arrays: Any) -> bytes:
        first = helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT)
        last = helper.make_node("ReduceMax", ["huge"], ["y"], keepdims=0)
        given = helper.make_tensor_value_info("x", TensorProto.UINT8, ["N", 4, 4, 3])
        found = helper.make_tensor_value_info("y", TensorProto.FLOAT, [])
        weights = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
        made = helper.make_graph([first, *nodes, last], "g", [given], [found], weights)
        opset = [helper.make_opsetid("", 17)]
        return bytes(helper.make_model(made, opset_imports=opset, ir_version=9).SerializeToString())

    names = ["f", *(f"c{i}" for i in range(30)), "huge"]
    doubled = [helper.make_node("Concat", [a, a], [b], axis=1) for a, b in zip(names, names[1:], strict=False)]
    sum_ = [helper.make_node("Add", ["column", "row"], ["some"]), helper.make_node("Add", ["some", "w"], ["huge"])]
    side, weight = np.zeros(23_000, np.float32), np.ones(1, np.float32)
    wide = graph(sum_, column=side[:, None], row=side[None], w=weight)
    crops = np.zeros((1, 4, 4, 3), np.uint8)
    spec = load_backend("onnxruntime")
    before = resident_mb(os.getpid()) or 0.0
    with pytest.raises(BackendError, match="failed while it ran"):
        spec.open(graph(doubled), "fp32").infer(crops)
    assert (resident_mb(os.getpid()) or 0.0) - before < 200
    with pytest.raises(BackendError):  # 2.1 GB
        spec.open(wide, "fp32").infer(crops)
