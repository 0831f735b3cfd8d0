"""Pictures and results of make_goldens.py, and graphs that give what a test asks for."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

GOLDENS = Path(__file__).parents[2] / "goldens" / "detectors"


@pytest.fixture(scope="session")
def picture() -> Callable[[int], NDArray[np.uint8]]:
    """`picture(seed)`: the frame that the goldens of this seed were made from."""
    spec = importlib.util.spec_from_file_location("make_goldens", Path(__file__).parent / "make_goldens.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[[int], NDArray[np.uint8]] = module.picture
    return found


@pytest.fixture(scope="session")
def file() -> Callable[[str], Path]:
    """The graph of a layout."""
    return lambda layout: GOLDENS / f"{layout}.onnx"


Give = Callable[..., bytes]


@pytest.fixture(scope="session")
def give() -> Give:
    return give_outputs


def give_outputs(
    outputs: Mapping[str, NDArray[Any]],
    *,
    shape: tuple[int | str, ...] = (1, 3, 128, 128),
    dtype: int = onnx.TensorProto.FLOAT,
    metadata: Mapping[str, str] | None = None,
    others: Mapping[str, tuple[int, tuple[int | str, ...]]] | None = None,
    mentions: str = "",
) -> bytes:
    """A graph that gives these outputs for every picture.

    Args:
        shape, dtype: of the picture's input.
        metadata: `metadata_props`.
        others: type and shape of inputs beside the picture, by name; they change nothing.
        mentions: a name of a weight.
    """
    nodes, tensors = [], [numpy_helper.from_array(np.float32(0), "zero")]
    inputs = {"images": (dtype, shape), **(others or {})}
    for name in inputs:
        nodes += [
            helper.make_node("Cast", [name], [f"{name}_float"], to=onnx.TensorProto.FLOAT),
            helper.make_node("ReduceMean", [f"{name}_float"], [f"{name}_mean"], keepdims=0),
        ]
    nodes.append(helper.make_node("Sum", [f"{name}_mean" for name in inputs], ["sum"]))
    nodes.append(helper.make_node("Mul", ["sum", "zero"], ["nothing"]))
    infos = []
    for name, array in outputs.items():
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        tensors.append(numpy_helper.from_array(array, f"{mentions}{name}_value"))
        nodes.append(helper.make_node("Cast", ["nothing"], [f"{name}_nothing"], to=kind))
        nodes.append(helper.make_node("Add", [f"{mentions}{name}_value", f"{name}_nothing"], [name]))
        infos.append(helper.make_tensor_value_info(name, kind, array.shape))
    described = [helper.make_tensor_value_info(name, kind, sizes) for name, (kind, sizes) in inputs.items()]
    graph = helper.make_graph(nodes, "given", described, infos, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.checker.check_model(model)
    return model.SerializeToString()
