"""The unsigned graph reads pixels, and computes what the normalised network computes with the same int8 weights."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional

from posert.calib.calibrated import Calibrated, calibrate
from posert.calib.graph import Graph
from posert.calib.pixels import find_pixels
from posert.calib.placement import place
from posert.calib.qdq import quantize

MEANS = {"imagenet": (103.53, 116.28, 123.675), "grey": (120, 120, 120), "none": (0, 0, 0), "black": (0, 0, 3)}
FACTORS = (1 / 57.375, 1 / 57.12, 1 / 58.395)


def first_layer(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph up to its first convolution, whose result is the output."""
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    index, node = next((k, n) for k, n in enumerate(model.graph.node) if n.op_type == "Conv")
    del cut.graph.node[index + 1 :], cut.graph.output[:]
    cut.graph.output.append(helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None))
    return cut


def equalised(found: Calibrated) -> np.ndarray:
    """What the channels of the first layer's result are divided by."""
    return found.channels["conv0.out"][:, None, None]


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("kind", ["residual", "deconv"])  # a kernel of 3 and stride 1, one of 7 and stride 2
def test_the_first_layer_computes_what_its_weights_say(build, crops, run, mean, kind):
    model = build(kind, mean=MEANS[mean], factor=FACTORS)
    found = calibrate(model, [crops], threads=1)
    made = quantize(model, found, unsigned=True).model
    got = run(first_layer(made), crops)

    conv = next(n for n in made.graph.node if n.op_type == "Conv")
    weights = next(n for n in made.graph.node if n.output[0] == conv.input[1])
    values = constants(made)
    levels, scales = (values[name] for name in weights.input[:2])
    exact = torch.from_numpy((crops.astype(np.float64) - MEANS[mean]).transpose(0, 3, 1, 2))
    seen = torch.from_numpy(levels[:, :3] * scales[:, None, None, None].astype(np.float64))
    size = levels.shape[-1]
    expected = functional.conv2d(exact, seen, None, 2 if size == 7 else 1, size // 2).numpy()
    expected += (constants(model)["c3"] / equalised(found)[:, 0, 0] + found.rounded[conv.name].shift)[:, None, None]
    # What is left is the rounding of the weights that carry the mean: half a level, at the border alone.
    centre = (slice(None), slice(None), slice(4, -4), slice(4, -4))
    assert np.abs(got - expected)[centre].max() < 1e-4 * np.abs(expected).max()
    assert np.abs(got - expected).max() < 255 * 0.5 * size * scales.max() * 4


def test_there_is_nothing_between_the_crops_and_the_first_layer_but_their_layout(build, crops):
    for mean, front in (("imagenet", ["Transpose", "Pad"]), ("grey", ["Transpose"])):
        model = build("residual", mean=MEANS[mean], factor=FACTORS)
        made = quantize(model, calibrate(model, [crops], threads=1), unsigned=True).model
        wanted = next(n for n in made.graph.node if n.op_type == "Conv").input[0]
        ops = []
        while wanted != "crops":
            node = next(n for n in made.graph.node if wanted in n.output)
            ops.append(node.op_type)
            wanted = node.input[0]
        assert ops[::-1] == [*front, "DequantizeLinear"]


def test_it_is_nearer_to_the_network_than_with_rounded_images(build, crops, run, monkeypatch):
    model = build("residual", mean=MEANS["imagenet"], factor=FACTORS)
    found = calibrate(model, [crops], threads=1)
    expected = run(first_layer(model), crops) / equalised(found)
    exact = run(first_layer(quantize(model, found, unsigned=True).model), crops)
    monkeypatch.setattr("posert.calib.qdq.find_pixels", lambda graph: None)
    rounded = run(first_layer(quantize(model, found, unsigned=True).model), crops)
    assert np.linalg.norm(exact - expected) < 0.9 * np.linalg.norm(rounded - expected)


def test_a_first_layer_in_float_and_the_graph_for_gpus_keep_their_normalisation(build, crops, run):
    model = build("residual", mean=MEANS["imagenet"], factor=FACTORS)
    found = calibrate(model, [crops], threads=1)
    first = place(model).layers[0]
    expected = run(first_layer(model), crops) / equalised(found)
    for options in ({"unsigned": True, "float_nodes": (first,)}, {"unsigned": False}):
        made = quantize(model, found, **options).model
        assert "Cast" in {n.op_type for n in made.graph.node}
        got = run(first_layer(made), crops)
        assert np.abs(got - expected).max() < (1e-4 if "float_nodes" in options else 0.05) * np.abs(expected).max()


@pytest.mark.parametrize("other", ["float images", "another reader", "an output", "a swap"])
def test_what_begins_otherwise_is_left(net, other):
    n = net(crops=other != "float images")
    if other == "a swap":
        transpose = n.nodes.pop()
        transpose.input[0] = n.add("Gather", [transpose.input[0], n.constant(np.array([2, 1, 0]))], axis=3)
        n.nodes.append(transpose)
    x = n.relu(n.conv(n.x, 3, 16))
    if other == "another reader":
        x = n.add("Concat", [x, n.x], axis=1)
        x = n.relu(n.conv(x, 19, 16))
    model = n.model(n.conv(x, 16, 17))
    if other == "an output":
        images = helper.make_tensor_value_info("transpose0.out", TensorProto.FLOAT, ["N", 3, "y", "x"])
        model.graph.output.append(images)
    assert find_pixels(Graph(model)) is None
