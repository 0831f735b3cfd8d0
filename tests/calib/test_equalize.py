"""Equalisation: the function stays to the last bit, channels come nearer, int8 loses less."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper

from posert.calib.equalize import ChannelMax, equalize
from posert.calib.qdq import place, quantize
from posert.calib.ranges import collect, observe
from posert.export.graph.to_onnx import with_crops


def uneven(model):
    """A network whose inner convolutions have output channels of sizes from 1 to 64."""
    values = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Conv" and node.output[0] != "heatmaps":
            for name in node.input[1:3]:
                array = numpy_helper.to_array(values[name])
                spread = np.exp2(np.random.default_rng(7).uniform(-6, 0, array.shape[0])).astype(np.float32)
                array = array * spread.reshape([-1] + [1] * (array.ndim - 1))
                values[name].CopyFrom(numpy_helper.from_array(array.astype(np.float32), name))
    return model


def test_the_function_is_kept_to_the_last_bit(kind, build, run, crops):
    model = build(kind)
    result = equalize(model, [crops])
    # factors are powers of two: every product and sum is scaled exactly
    assert np.array_equal(run(result, crops), run(model, crops))
    assert any(
        not np.array_equal(a.raw_data, b.raw_data)
        for a, b in zip(model.graph.initializer, result.graph.initializer, strict=False)
    )


def spread(model, crops, tensors):
    seen = observe(model, [crops], tensors, ChannelMax)
    return {t: np.median(s.amax[s.amax > 0]) / s.amax.max() for t, s in seen.items()}


def test_channels_come_nearer_to_each_other(build, crops):
    model = uneven(build("residual"))
    tensors = [n.output[0] for n in model.graph.node if n.op_type == "Relu"]
    before, after = spread(model, crops, tensors), spread(equalize(model, [crops]), crops, tensors)
    assert all(after[t] > 1.5 * before[t] for t in tensors)


@pytest.mark.parametrize("unsigned", [False, True])
def test_int8_loses_less(build, run, crops, unsigned):
    model = uneven(build("residual"))
    expected = run(model, crops)

    def loss(m):
        result = quantize(m, collect(m, [crops], place(m).tensors), unsigned=unsigned).model
        return np.linalg.norm(run(result, crops) - expected) / np.linalg.norm(expected)

    assert loss(equalize(model, [crops])) < 0.8 * loss(model)


def test_strength_zero_changes_nothing(build, crops, run):
    model = build("exchange")
    result = equalize(model, [crops], strength=0)
    before = {t.name: t.raw_data for t in model.graph.initializer}
    after = {t.name.removesuffix("/equal"): t.raw_data for t in result.graph.initializer}
    assert after == before


def test_dead_channels_and_layers(net, run, crops):
    n = net()
    weights = n.rng.standard_normal((16, 3, 3, 3)).astype(np.float32)
    weights[5:] = 0
    x = n.relu(n.conv(n.x, 3, 16, weights=weights))
    dead = n.relu(n.conv(x, 16, 16, weights=np.zeros((16, 16, 3, 3), np.float32)))
    model = n.model(n.conv(n.add("Add", [n.conv(dead, 16, 16), x]), 16, 17, kernel=1))
    result = equalize(model, [crops])
    assert np.array_equal(run(result, crops), run(model, crops))


def test_tensors_that_others_read_are_left_alone(net, run, crops):
    """A Sigmoid is not linear: what it reads or writes cannot be rescaled, and its neighbours still are."""
    n = net()
    a = n.relu(n.conv(n.x, 3, 16))
    gate = n.add("Sigmoid", [n.conv(a, 16, 16)])
    b = n.add("Mul", [a, gate])
    model = n.model(n.conv(n.relu(n.conv(b, 16, 16)), 16, 17, kernel=1))
    result = equalize(uneven(model), [crops])
    names = {i.name: i for i in result.graph.node}
    assert not names["conv0"].input[1].endswith("/equal")
    assert names["conv2"].input[1].endswith("/equal") and names["conv3"].input[1].endswith("/equal")
    assert np.array_equal(run(result, crops), run(model, crops))


def test_exported_network(narrow_onnx, narrow_reference, run):
    model = with_crops(narrow_onnx, narrow_reference.contract)
    batch = np.random.default_rng(0).integers(0, 256, (2, 128, 96, 3), np.uint8)
    result = equalize(model, [batch])
    assert np.array_equal(run(result, batch), run(model, batch))
