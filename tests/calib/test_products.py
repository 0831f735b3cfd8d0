"""Matrix products in int8: which are quantised, along which axis, and that they compute as the float graph does."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from posert.calib.placement import place
from posert.calib.qdq import quantize
from posert.calib.ranges import collect

RNG = np.random.default_rng(0)


def graph(
    *nodes: onnx.NodeProto, matrices: dict[str, tuple[int, ...]], features: int, rank: int = 3
) -> onnx.ModelProto:
    """`crops` uint8 `(N, 6, features)` (or without the middle axis), halved, through the nodes, to `out`."""
    shape = ["N", 6, features] if rank == 3 else ["N", features]
    constants = {name: RNG.normal(0, size[0] ** -0.5, size).astype(np.float32) for name, size in matrices.items()}
    # channels of very different sizes, which only scales of their own can hold
    for name, values in constants.items():
        if values.ndim == 2:
            axis = 0 if name.startswith("t") else 1
            scale = np.logspace(-2, 0, values.shape[axis]).astype(np.float32)
            values *= scale if axis == 1 else scale[:, None]
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Cast", ["crops"], ["x"], "cast", to=TensorProto.FLOAT), *nodes],
            "products",
            [helper.make_tensor_value_info("crops", TensorProto.UINT8, shape)],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(values, name) for name, values in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 19)],
        ir_version=9,
    )
    return onnx.shape_inference.infer_shapes(model)


def run(model: onnx.ModelProto, crops: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"crops": crops})[0]


def node(operator: str, *inputs: str, to: str, **attributes: int) -> onnx.NodeProto:
    return helper.make_node(operator, list(inputs), [to], f"{operator}.{to}", **attributes)


PERCEPTRON = (node("MatMul", "x", "a", to="h"), node("Relu", "h", to="r"), node("MatMul", "r", "b", to="s"))


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("operator", ["MatMul", "Gemm"])
def test_each_output_channel_has_a_scale_of_its_own(operator: str, transposed: int, unsigned: bool) -> None:
    if operator == "MatMul" and transposed:
        pytest.skip("only Gemm transposes")
    name = "t" if transposed else "a"
    attributes = {"transB": transposed} if operator == "Gemm" else {}
    first = node(operator, "x", name, to="h", **attributes)
    shape = (24, 32) if transposed else (32, 24)
    model = graph(
        first, node("Relu", "h", to="r"), node("Sigmoid", "r", to="out"),
        matrices={name: shape}, features=32, rank=2 if operator == "Gemm" else 3,
    )  # fmt: skip
    size = (64, 32) if operator == "Gemm" else (16, 6, 32)
    crops = RNG.integers(0, 4, size).astype(np.uint8)
    placement = place(model)
    assert placement.layers == (first.name,) and placement.int8_macs == 1
    made = quantize(model, collect(model, [crops], placement.tensors), unsigned=unsigned).model
    scales = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}[f"{name}/scale"]
    assert scales.shape == (24,) and scales.max() / scales.min() > 50
    float_out, int8_out = run(model, crops), run(made, crops)
    np.testing.assert_allclose(int8_out, float_out, atol=0.02 * np.abs(float_out).max())


def test_a_product_that_gives_an_output_stays_float() -> None:
    """As SimCC's last layers: directly, or behind a bias and a change of shape."""
    matrices = {"a": (32, 32), "b": (32, 64)}
    for tail in (
        (node("MatMul", "r", "b", to="out"),),
        (node("MatMul", "r", "b", to="s"), node("Add", "s", "c", to="t"), node("Unsqueeze", "t", "axes", to="out")),
    ):
        model = graph(*PERCEPTRON[:2], *tail, matrices={**matrices, "c": (64,)}, features=32)
        model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "axes"))
        placement = place(model)
        assert placement.layers == ("MatMul.h",)
        assert placement.skipped == {tail[0].name: "it gives an output of the graph"}
    model = graph(
        *PERCEPTRON, node("Sigmoid", "s", to="out"), matrices=matrices, features=32
    )  # something is computed from it, so it is a layer as any other
    assert place(model).layers == ("MatMul.h", "MatMul.s")


def test_products_that_are_not_layers_stay_float() -> None:
    attention = node("MatMul", "x", "x", to="h")
    model = graph(
        attention, node("MatMul", "h", "a", to="s"), node("MatMul", "s", "few", to="f"), node("Relu", "f", to="out"),
        matrices={"a": (6, 32), "few": (32, 4)}, features=6,
    )  # fmt: skip
    with pytest.raises(Exception, match="no .* can be quantised") as refusal:
        place(model)
    for reason in (
        "its weights are computed, not constant",
        "few channels .6 in, 32 out.",
        "few channels .32 in, 4 out.",
    ):
        assert refusal.match(reason)
