"""Q/DQ: the structure of the placement, the numbers, and that the runtimes agree on them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from posert.calib.observers import Range
from posert.calib.placement import place
from posert.calib.qdq import quantize
from posert.calib.ranges import collect
from posert.export.graph.to_onnx import with_crops
from posert.runtime.errors import CalibrationError


def quantized(model, crops, **options):
    wanted = place(model, options.get("float_nodes", ())).tensors
    return quantize(model, collect(model, [crops], wanted), **options).model


def relative(a, b):
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


class Wiring:
    def __init__(self, model):
        self.nodes = {n.name: n for n in model.graph.node}
        self.producer = {o: n for n in model.graph.node for o in n.output}
        self.values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}

    def source(self, name, index):
        """The tensor behind the Q/DQ pair that a node reads, and its scale; None where it reads a float."""
        dq = self.producer.get(self.nodes[name].input[index])
        if dq is None or dq.op_type != "DequantizeLinear" or dq.input[0] in self.values:
            return None
        q = self.producer[dq.input[0]]
        assert q.op_type == "QuantizeLinear" and q.input[1:] == dq.input[1:]
        return q.input[0], float(self.values[q.input[1]])


EXPECTED = {
    # inputs of nodes that are quantised beside those of the layers: the skip of each residual Add, what value-moving
    # nodes carry back, and tensors that are in int8 anyway
    "residual": {("add0", 1): "relu0.out", ("add1", 0): "conv5.out"},
    "exchange": {("add0", 0): "relu0.out", ("add1", 1): "relu1.out", ("add2", 0): None},
    "deconv": {("maxpool0", 0): "relu0.out"},
    "concat": {("concat0", 0): "relu0.out", ("concat0", 1): "resize0.out", ("resize0", 0): "relu1.out"},
}


def test_what_is_quantised(kind, build, crops):
    model = build(kind)
    w = Wiring(quantized(model, crops))
    layers = [n.name for n in model.graph.node if n.op_type in ("Conv", "ConvTranspose")]
    for name in layers:
        assert w.source(name, 0)[0] == model_input(model, name, 0)
    for (name, index), tensor in EXPECTED[kind].items():
        source = w.source(name, index)
        assert (source and source[0]) == tensor, (name, index)
    quantised_edges = sum(
        w.source(n.name, k) is not None
        for n in w.nodes.values()
        for k in range(len(n.input))
        if n.op_type not in ("QuantizeLinear", "DequantizeLinear")
    )
    assert quantised_edges == len(layers) + sum(t is not None for t in EXPECTED[kind].values())


def model_input(model, name, index):
    return next(n for n in model.graph.node if n.name == name).input[index]


def test_one_pair_per_tensor_and_never_the_output(kind, build, crops):
    result = quantized(build(kind), crops)
    read = [n.input[0] for n in result.graph.node if n.op_type == "QuantizeLinear"]
    assert len(read) == len(set(read))
    assert "heatmaps" not in read
    assert Wiring(result).producer["heatmaps"].op_type == "Conv"


def test_weights_per_output_channel_and_float_bias(kind, build, crops):
    model = build(kind)
    result = quantized(model, crops)
    before, w = Wiring(model), Wiring(result)
    for node in result.graph.node:
        if node.op_type not in ("Conv", "ConvTranspose"):
            continue
        dq = w.producer[node.input[1]]
        axis = 0 if node.op_type == "Conv" else 1
        assert dq.attribute[0].i == axis
        levels, scales, zero = (w.values[i] for i in dq.input)
        assert levels.dtype == zero.dtype == np.int8 and not zero.any() and levels.min() >= -127
        original = before.values[before.nodes[node.name].input[1]]
        assert scales.shape == (original.shape[axis],)
        shape = [-1 if k == axis else 1 for k in range(4)]
        # rounding to the nearest level is off by at most half a step
        assert (np.abs(levels * scales.reshape(shape) - original) <= 0.501 * scales.reshape(shape)).all()
        assert w.values[node.input[2]].dtype == np.float32


@pytest.mark.parametrize("opset", [13, 17, 19])
def test_near_the_float_network_and_the_unsigned_variant_nearer(kind, opset, build, run, crops):
    model = build(kind, opset)
    expected = run(model, crops)
    signed = relative(run(quantized(model, crops), crops), expected)
    unsigned = relative(run(quantized(model, crops, unsigned=True), crops), expected)
    # A tensor whose largest value is 5 to 10 standard deviations has a step of about 1/16 of one and so an error of
    # 2 %; the networks have up to seven layers, whose errors add like noise
    assert signed < 0.02 * math.sqrt(7)
    assert unsigned < signed


def test_float16_fallback_computes_what_float32_fallback_computes(kind, build, run, crops):
    model = build(kind)
    single = run(quantized(model, crops), crops)
    half = quantized(model, crops, fallback_dtype="float16")
    casts = [n for n in half.graph.node if n.op_type == "Cast"]
    assert [c.attribute[0].i for c in casts] == [TensorProto.FLOAT, TensorProto.FLOAT], "pixels in, heatmaps out"
    kinds = {t.name: t.data_type for t in half.graph.initializer}
    scales = [kinds[n.input[1]] for n in half.graph.node if n.op_type == "DequantizeLinear"]
    assert set(scales) == {TensorProto.FLOAT16}
    # float16 moves values across rounding borders, each by one int8 step: no more than the error of int8 itself
    assert relative(run(half, crops), single) < 0.04


def test_a_float16_fallback_keeps_the_named_nodes_in_float32(build, run, crops):
    model = build("exchange")
    ranges = collect(model, [crops], place(model).tensors)
    added = next(n.name for n in model.graph.node if n.op_type == "Add")
    half = quantize(model, ranges, fallback_dtype="float16", keep_fp32=[added]).model
    makers = {o: n for n in half.graph.node for o in n.output}
    inputs = [makers[i] for i in next(n.input for n in half.graph.node if n.name == added)]
    casts = [n.attribute[0].i for n in inputs if n.op_type == "Cast"]
    assert casts and set(casts) == {TensorProto.FLOAT}
    assert relative(run(half, crops), run(quantize(model, ranges).model, crops)) < 0.04


def test_zero_point_of_the_unsigned_variant(build, crops):
    model = build("exchange")
    ranges = collect(model, [crops], place(model).tensors)
    w = Wiring(quantize(model, ranges, unsigned=True).model)
    for node in (n for n in w.nodes.values() if n.op_type == "QuantizeLinear"):
        seen, scale, zero = ranges[node.input[0]], float(w.values[node.input[1]]), w.values[node.input[2]]
        assert zero.dtype == np.uint8
        # zero is exact, and both ends are covered to half a step
        assert (0 - int(zero)) * scale == pytest.approx(seen.lo, abs=0.51 * scale)
        assert (255 - int(zero)) * scale == pytest.approx(seen.hi, abs=0.51 * scale)
        if node.input[0].startswith("relu"):
            assert zero == 0


def test_the_signed_graph_is_symmetric(build, crops):
    w = Wiring(quantized(build("exchange"), crops))
    zeros = [w.values[n.input[2]] for n in w.nodes.values() if n.op_type == "QuantizeLinear"]
    assert all(z.dtype == np.int8 and z == 0 for z in zeros)


def test_one_scale_through_nodes_that_only_move_values(build, crops):
    w = Wiring(quantized(build("concat"), crops))
    scales = {w.source("concat0", 0)[1], w.source("concat0", 1)[1], w.source("resize0", 0)[1], w.source("conv2", 0)[1]}
    assert len(scales) == 1
    w = Wiring(quantized(build("deconv"), crops))
    assert w.source("maxpool0", 0)[1] == w.source("conv1", 0)[1]


def test_the_variant_for_cpus_quantises_what_an_add_reads_enlarged(build, crops):
    model = build("exchange")
    for_gpus, for_cpus = (Wiring(quantized(model, crops, unsigned=unsigned)) for unsigned in (False, True))
    for resize, tensor in (("resize0", "conv2.out"), ("resize1", "conv4.out")):
        assert for_gpus.source(resize, 0) is None and for_cpus.source(resize, 0)[0] == tensor
    # once: the Add reads what comes out of the Resize as it is
    assert for_cpus.source("add0", 1) is None and for_cpus.source("add2", 1) is None
    for float_node in ("conv2", "add0"):
        left = Wiring(quantized(model, crops, unsigned=True, float_nodes=[float_node]))
        assert left.source("resize0", 0) is None and left.source("resize1", 0) is not None
    assert place(build("concat")).cpu_edges == ()  # that Resize is quantised in both variants


def test_a_linear_resize_mixes_values_and_stays_float(net, crops):
    n = net()
    up = n.resize(n.relu(n.conv(n.x, 3, 16)), "linear")
    w = Wiring(quantized(n.model(n.conv(up, 16, 16)), crops))
    assert w.source("resize0", 0) is None and w.source("conv1", 0)[0] == "resize0.out"


def test_few_channels_stay_float_with_the_reason(net, crops, run):
    n = net()
    x = n.relu(n.conv(n.x, 3, 4))  # neither 3 nor 4 is a multiple of 8
    x = n.relu(n.conv(x, 4, 8))
    x = n.relu(n.conv(x, 8, 16))
    model = n.model(n.conv(x, 16, 17, kernel=1))
    placement = place(model)
    assert placement.skipped == {
        "conv0": "it has few channels (3 in, 4 out)",
        "conv1": "it has few channels (4 in, 8 out)",
    }
    assert placement.layers == ("conv2", "conv3")
    macs = [3 * 4 * 9, 4 * 8 * 9, 8 * 16 * 9, 16 * 17]
    assert placement.int8_macs == pytest.approx(sum(macs[2:]) / sum(macs))
    assert relative(run(quantized(model, crops), crops), run(model, crops)) < 0.05


def test_macs_of_a_transposed_convolution(net):
    n = net()
    x = n.relu(n.conv(n.x, 3, 4))
    model = n.model(n.deconv(x, 4, 16))
    n = net()
    placement = place(n.model(n.deconv(n.relu(n.conv(n.x, 3, 16)), 16, 16)), float_nodes=["conv0"])
    # 32x32 positions each: 3 * 16 * 9 weights in the convolution, 16 * 16 * 16 in the transposed one
    assert placement.int8_macs == pytest.approx(4096 / (4096 + 432))
    with pytest.raises(CalibrationError, match=r"no layer.*few channels \(4 in, 16 out\)|few channels"):
        place(model, float_nodes=["convtranspose0"])


def test_nodes_left_in_float_on_request(build, crops):
    model = build("residual")
    w = Wiring(quantized(model, crops, float_nodes=["conv2", "add0"]))
    assert place(model, ["conv2"]).skipped == {"conv2": "requested"}
    assert w.source("conv2", 0) is None and w.source("add0", 0) is None and w.source("add0", 1) is None
    assert w.producer.get(w.nodes["conv2"].input[1]) is None, "its weights stay float"
    with pytest.raises(CalibrationError, match="unknown node 'conv77'"):
        place(model, ["conv77"])


def test_a_layer_that_reads_the_graph_output(net, crops):
    n = net()
    maps = n.conv(n.relu(n.conv(n.x, 3, 16)), 16, 17, kernel=1)
    n.conv(maps, 17, 16, kernel=1)
    model = n.model(maps)
    assert place(model).skipped == {"conv2": "it reads the graph output 'heatmaps', which stays float"}
    assert "heatmaps" not in place(model).tensors


def test_computed_weights_stay_float(net):
    n = net()
    x = n.relu(n.conv(n.x, 3, 16))
    weights = n.add("Mul", [n.constant(np.ones((16, 16, 1, 1), np.float32)), n.constant(np.float32([2]))])
    model = n.model(n.add("Conv", [x, weights]))
    assert place(model).skipped == {"conv1": "its weights are computed, not constant"}


@pytest.mark.parametrize("dtype, unsigned", [("float32", False), ("float32", True), ("float16", False)])
def test_channels_and_tensors_of_zeros(net, run, dtype, unsigned, crops):
    """Narrow networks embedded in wide ones have channels of zeros, and biases on channels with next to no weights."""
    n = net()
    weights = n.rng.standard_normal((16, 3, 3, 3)).astype(np.float32) * 0.2
    weights[8:] = 0
    weights[4] *= 1e-12
    x = n.relu(n.conv(n.x, 3, 16, weights=weights))
    dead = n.relu(n.conv(x, 16, 16, weights=np.zeros((16, 16, 3, 3), np.float32)))
    nodes = {i.name: i for i in n.initializers}
    bias = nodes[n.nodes[-2].input[2]]
    bias.CopyFrom(numpy_helper.from_array(-np.ones(16, np.float32), bias.name))  # the ReLU then gives only zeros
    model = n.model(n.conv(n.add("Add", [n.conv(dead, 16, 16), x]), 16, 17, kernel=1))
    result = quantized(model, crops, fallback_dtype=dtype, unsigned=unsigned)
    for t in result.graph.initializer:
        if "scale" in t.name:
            scale = numpy_helper.to_array(t)
            assert (scale > 0).all() and np.isfinite(scale).all()
    expected = run(model, crops)
    assert relative(run(result, crops), expected) < 0.03
    # optimised: here the bias is turned into int32, which must not overflow
    if dtype == "float32":
        assert relative(onnxruntime_default(result, crops), expected) < 0.03
        assert relative(openvino_cpu(result, crops)[0], expected) < 0.03


def onnxruntime_default(model, crops):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"crops": crops})[0]


def openvino_cpu(model, crops):
    """Heatmaps, and the number of convolutions per type in which OpenVINO runs them."""
    core = openvino.Core()
    options = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", options)
    types = Counter()
    for op in compiled.get_runtime_model().get_ops():
        info = op.get_rt_info()
        if info["layerType"].astype(str) in ("Convolution", "Deconvolution"):
            types[info["runtimePrecision"].astype(str)] += 1
    return compiled({"crops": crops})[0].copy(), types


@pytest.mark.parametrize("unsigned", [False, True])
def test_openvino_and_onnxruntime_compute_what_the_graph_says(kind, unsigned, build, run, crops):
    model = build(kind)
    result = quantized(model, crops, unsigned=unsigned)
    literal = run(result, crops)
    # kernels that fuse skip intermediate roundings or round half the other way: a step here and there
    assert relative(onnxruntime_default(result, crops), literal) < 0.02
    heatmaps, types = openvino_cpu(result, crops)
    if unsigned or kind != "concat":  # OpenVINO 2026.4 computes a signed Concat wrongly; CPUs get the unsigned variant
        assert relative(heatmaps, literal) < 0.02
    layers = sum(n.op_type in ("Conv", "ConvTranspose") for n in model.graph.node)
    assert types["u8"] + types["i8"] == layers, f"every layer must really run in int8, but: {types}"


def test_exported_network(narrow_onnx, narrow_reference, run):
    model = with_crops(narrow_onnx, narrow_reference.contract)
    batch = np.random.default_rng(0).integers(0, 256, (4, 16, 12, 3), np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    placement = place(model)
    assert 0.8 < placement.int8_macs < 0.81, "the 8-channel branch of this narrow network stays float"
    assert all("few channels (8 in, 8 out)" in r or "17 out" in r for r in placement.skipped.values()), (
        placement.skipped
    )
    result = quantized(model, batch, unsigned=True)
    # some 25 layers deep, see the bound above; random weights have no redundancy that would average errors out
    assert relative(run(result, batch), run(model, batch)) < 0.02 * 5


def test_the_model_given_is_left_alone_and_results_repeat(build, crops):
    model = build("concat")
    before = model.SerializeToString(deterministic=True)
    first = quantized(model, crops).SerializeToString(deterministic=True)
    assert quantized(model, crops).SerializeToString(deterministic=True) == first
    assert model.SerializeToString(deterministic=True) == before


def test_quantising_twice_is_refused(build, crops):
    with pytest.raises(CalibrationError, match="already quantised.*QuantizeLinear.*float32 graph"):
        place(quantized(build("residual"), crops))


def test_old_opsets_are_refused(build, crops):
    model = build("residual", 17)
    ranges = collect(model, [crops], place(model).tensors)
    with pytest.raises(CalibrationError, match="needs opset 19.*has opset 17"):
        quantize(model, ranges, fallback_dtype="float16")
    model.opset_import[0].version = 12
    with pytest.raises(CalibrationError, match="need opset 13.*opset 12"):
        place(model)


def test_unsigned_and_float16_fallback_exclude_each_other(build):
    with pytest.raises(CalibrationError, match="one of the two"):
        quantize(build("residual"), {}, unsigned=True, fallback_dtype="float16")


def test_missing_and_impossible_ranges_are_named(build, crops):
    model = build("residual")
    ranges = collect(model, [crops], place(model).tensors)
    with pytest.raises(CalibrationError, match=r"no range for the tensor 'relu1.out'"):
        quantize(model, {k: v for k, v in ranges.items() if k != "relu1.out"})
    for bad in (Range(0, math.nan), Range(1, 2), Range(-math.inf, 0)):
        with pytest.raises(CalibrationError, match=r"range of 'relu1.out'.*finite and contain zero"):
            quantize(model, {**ranges, "relu1.out": bad})


def test_a_graph_without_layers(net):
    n = net()
    with pytest.raises(CalibrationError, match="no layer.*it has none"):
        place(n.model(n.relu(n.x)))


def test_every_result_passes_the_full_check(kind, build, crops):
    for options in ({}, {"unsigned": True}, {"fallback_dtype": "float16"}):
        onnx.checker.check_model(quantized(build(kind), crops, **options), full_check=True)


def test_ranges_serve_every_set_of_float_nodes(kind: str, build: Callable[..., Any], crops: NDArray[np.uint8]) -> None:
    """A residual Add whose convolution is in float quantises its other branch, whose range must be known by then."""
    model = build(kind)
    placement = place(model)
    ranges = collect(model, [crops], placement.tensors)
    for name in placement.layers:
        others = set(placement.layers) - {name}
        if others:
            quantize(model, ranges, float_nodes=[name])
            quantize(model, ranges, float_nodes=others, unsigned=True)
