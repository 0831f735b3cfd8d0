"""The cast to float16: where the Casts are, what stays wide, and how near the result is."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from posert.calib.fp16 import activations, overflows, to_fp16
from posert.calib.ranges import collect
from posert.export.graph.to_onnx import with_crops
from posert.runtime.errors import CalibrationError


def casts(model):
    return [(n.input[0], n.attribute[0].i) for n in model.graph.node if n.op_type == "Cast"]


def relative(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


@pytest.mark.parametrize("opset", [17, 19])
def test_one_cast_in_and_one_out_near_the_float32_network(kind, opset, build, run, crops):
    model = build(kind, opset)
    half = to_fp16(model)
    (first, _), (inside, to_half), (_, to_float) = casts(half)
    assert first == "crops" and inside == "transpose0.out"
    assert (to_half, to_float) == (TensorProto.FLOAT16, TensorProto.FLOAT)
    assert half.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    # float16 rounds to 2**-11 relative; errors of a few layers add like noise
    assert relative(run(half, crops), run(model, crops)) < 3 * 2**-11


def test_the_model_given_is_left_alone(build):
    model = build("exchange")
    before = model.SerializeToString(deterministic=True)
    to_fp16(model)
    assert model.SerializeToString(deterministic=True) == before


def test_float_input_is_cast_once_although_two_nodes_read_it(net, run):
    n = net(crops=False)
    model = n.model(n.add("Add", [n.conv(n.x, 3, 16), n.conv(n.x, 3, 16)]))
    half = to_fp16(model)
    assert [name for name, _ in casts(half)] == ["images", "heatmaps/float16"]
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    assert relative(run(half, images), run(model, images)) < 2**-10


def test_normalisation_and_resize_scales_stay_float32(build):
    half = to_fp16(build("exchange"))
    types = {t.name: t.data_type for t in half.graph.initializer}
    for node in half.graph.node:
        if node.op_type in ("Sub", "Mul"):
            assert types[node.input[1]] == TensorProto.FLOAT
        if node.op_type == "Resize":
            assert types[node.input[2]] == TensorProto.FLOAT
        if node.op_type == "Conv":
            assert types[node.input[1]] == types[node.input[2]] == TensorProto.FLOAT16
    floats = [t for t in half.graph.initializer if t.data_type == TensorProto.FLOAT]
    assert len(floats) == 2 + 2  # mean, scale, and the scales of two Resizes


def test_graph_output_that_is_also_read_inside(net, run, crops):
    n = net()
    maps = n.conv(n.relu(n.conv(n.x, 3, 16)), 16, 17, kernel=1)
    n.relu(maps)  # the graph output has a reader, as in a stacked network
    model = n.model(maps)
    half = to_fp16(model)
    assert relative(run(half, crops), run(model, crops)) < 2**-9


def test_nodes_kept_in_float(build, run, crops):
    model = build("residual")
    half = to_fp16(model, keep_fp32=["conv2"])
    types = {t.name: t.data_type for t in half.graph.initializer}
    convs = {n.name: types[n.input[1]] for n in half.graph.node if n.op_type == "Conv"}
    assert convs.pop("conv2") == TensorProto.FLOAT
    assert set(convs.values()) == {TensorProto.FLOAT16}
    assert len(casts(half)) == 3 + 2  # one in front of the kept node and one behind
    assert relative(run(half, crops), run(model, crops)) < 2**-9


def test_keeping_everything_changes_nothing(build, run, crops):
    model = build("concat")
    half = to_fp16(model, keep_fp32=[n.name for n in model.graph.node])
    assert len(casts(half)) == 1
    assert np.array_equal(run(half, crops), run(model, crops))


def test_weights_that_overflow_are_named_with_what_mends_it(net):
    n = net()
    weights = np.full((16, 3, 3, 3), 7e4, np.float32)
    model = n.model(n.conv(n.conv(n.x, 3, 16, weights=weights), 16, 16))
    name = model.graph.node[4].input[1]
    with pytest.raises(CalibrationError, match=rf"{name}.*7e\+04.*65504.*keep_fp32=\['conv0'\]"):
        to_fp16(model)
    to_fp16(model, keep_fp32=["conv0"])


def test_activations_that_overflow_are_found_on_calibration_data(net, run, crops):
    n = net()
    large = n.relu(n.conv(n.x, 3, 16, weights=np.full((16, 3, 3, 3), 9e3, np.float32)))
    small = n.conv(large, 16, 16, weights=np.full((16, 16, 1, 1), 1e-6, np.float32), kernel=1)
    model = n.model(n.conv(n.relu(small), 16, 17, kernel=1))
    ranges = collect(model, [crops], activations(model))
    assert ranges["relu0.out"].hi > 65504 > ranges["relu1.out"].hi
    keep = overflows(model, ranges)
    assert set(keep) == {"conv0", "relu0", "conv1"}
    assert "reaches" in keep["conv0"] and "65504" in keep["conv0"]
    fixed = to_fp16(model, keep)
    assert relative(run(fixed, crops), run(model, crops)) < 2**-9
    types = {t.name: t.data_type for t in fixed.graph.initializer}
    convs = {n.name: types[n.input[1]] for n in fixed.graph.node if n.op_type == "Conv"}
    assert convs["conv2"] == TensorProto.FLOAT16


def test_nothing_overflows_in_an_ordinary_network(build, crops):
    model = build("exchange")
    assert overflows(model, collect(model, [crops], activations(model))) == {}


def test_unknown_node_to_keep(build):
    with pytest.raises(CalibrationError, match="unknown node 'conv99'.*Known: .*conv0"):
        to_fp16(build("residual"), keep_fp32=["conv99"])


def test_control_flow_is_refused(net):
    n = net()
    x = n.conv(n.x, 3, 16)
    branch = helper.make_graph(
        [helper.make_node("Relu", [x], ["b"])], "b", [], [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)]
    )
    y = n.add("If", [n.constant(np.array(True))], then_branch=branch, else_branch=branch)
    with pytest.raises(CalibrationError, match="if0.*subgraph"):
        to_fp16(n.model(y))


def test_constants_written_as_nodes(net, run, crops):
    n = net()
    x = n.conv(n.x, 3, 16)
    value = onnx.numpy_helper.from_array(np.full((1, 16, 1, 1), 0.5, np.float32))
    model = n.model(n.add("Mul", [x, n.add("Constant", [], value=value)]))
    assert relative(run(to_fp16(model), crops), run(model, crops)) < 2**-10


def test_exported_network(narrow_onnx, narrow_reference, run):
    model = with_crops(narrow_onnx, narrow_reference.contract)
    half = to_fp16(model)
    assert len(casts(half)) == 3
    batch = np.random.default_rng(0).integers(0, 256, (2, 128, 96, 3), np.uint8)
    assert relative(run(half, batch), run(model, batch)) < 3e-3
