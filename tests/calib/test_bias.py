"""Biases: against the mean error of a layer computed by hand, and what correcting them does to a network."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from posert.calib.bias import correct_bias
from posert.calib.graph import Graph
from posert.calib.qdq import place, quantize
from posert.calib.ranges import collect
from posert.runtime.errors import CalibrationError


def ranges_of(model, crops, method="percentile:99"):
    return collect(model, [crops], place(model).tensors, method, threads=1)


def bias_of(model, index):
    graph = Graph(model)
    return graph.array([n for n in graph.nodes if n.op_type == "Conv"][index].input[2])


def test_a_layer_is_corrected_by_its_mean_error(net, crops, run):
    """One convolution: its error is the network's, so the heatmaps' mean error must vanish."""
    n = net()
    model = n.model(n.conv(n.x, 3, 16))
    ranges = ranges_of(model, crops)
    shift = (run(quantize(model, ranges).model, crops) - run(model, crops)).mean(axis=(0, 2, 3))
    assert np.abs(shift).max() > 1e-3, "clipping at the 99th percentile shifts something"
    corrected = correct_bias(model, ranges, [crops[:5], crops[5:5], crops[5:]], threads=1)
    # float32 sums in another order
    assert bias_of(corrected, 0) == pytest.approx(bias_of(model, 0) - shift, abs=1e-5)
    left = (run(quantize(corrected, ranges).model, crops) - run(model, crops)).mean(axis=(0, 2, 3))
    assert np.abs(left).max() < 1e-4


@pytest.mark.parametrize("unsigned", [False, True])
def test_a_network_comes_nearer_to_float(kind, build, crops, run, unsigned):
    model = build(kind)
    ranges = ranges_of(model, crops)
    reference = run(model, crops)

    def mean_error(source):
        found = run(quantize(source, ranges, unsigned=unsigned).model, crops)
        return np.abs((found - reference).mean(axis=(0, 2, 3))).mean()

    corrected = correct_bias(model, ranges, [crops], unsigned=unsigned, threads=1)
    assert mean_error(corrected) < 0.7 * mean_error(model)
    assert place(corrected) == place(model), "no node or tensor changes its name"


def test_a_layer_without_bias_gets_one(net, crops, run):
    n = net()
    y = n.conv(n.x, 3, 16)
    del n.nodes[-1].input[2]
    model = n.model(y)
    corrected = correct_bias(model, ranges_of(model, crops), [crops], threads=1)
    onnx.checker.check_model(corrected, full_check=True)
    assert bias_of(corrected, 0).shape == (16,)


def test_layers_in_float_keep_their_bias(build, crops):
    model = build("residual")
    corrected = correct_bias(model, ranges_of(model, crops), [crops], float_nodes=["conv1"], threads=1)
    assert np.array_equal(bias_of(corrected, 1), bias_of(model, 1))
    assert not np.array_equal(bias_of(corrected, 2), bias_of(model, 2))


def test_batches_and_order_do_not_matter(build, crops):
    model = build("exchange")
    ranges = ranges_of(model, crops)
    whole, split = (correct_bias(model, ranges, b, threads=1) for b in ([crops], [crops[7:], crops[:7]]))
    for k in range(3):
        assert bias_of(split, k) == pytest.approx(bias_of(whole, k), abs=1e-5)


@pytest.mark.parametrize("batches", [[], [np.zeros((0, 32, 32, 3), np.uint8)]])
def test_no_crops(build, crops, batches):
    model = build("concat")
    with pytest.raises(CalibrationError, match="calibration set is empty"):
        correct_bias(model, ranges_of(model, crops), batches)


def test_nan_is_named_by_its_layer(net, crops):
    n = net()
    weights = np.ones((16, 16, 1, 1), np.float32)
    x = n.relu(n.conv(n.x, 3, 16))
    model = n.model(n.conv(x, 16, 16, kernel=1, weights=weights))
    ranges = ranges_of(model, crops)
    weights[3, 2] = np.nan
    name = next(node.input[1] for node in model.graph.node if node.name == "conv1")
    broken = next(t for t in model.graph.initializer if t.name == name)
    broken.CopyFrom(onnx.numpy_helper.from_array(weights, name))
    with pytest.raises(CalibrationError, match="'conv1' gives NaN"):
        correct_bias(model, ranges, [crops], threads=1)
