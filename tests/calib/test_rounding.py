"""Learned rounding: errors cancel on crops and frames that it has not seen, and both variants have the same levels."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from posert.calib.calibrated import calibrate
from posert.calib.graph import Graph
from posert.calib.images import crops_from_coco, folder
from posert.calib.placement import output_axis, place
from posert.calib.qdq import quantize
from posert.calib.rounding import learn_rounding, nearest, representable, weight_scales
from posert.calib.sensitivity import infer
from posert.export.graph.to_onnx import with_crops
from posert.runtime.bundle.contract import Contract
from posert.runtime.errors import CalibrationError

MOUSE = Path(__file__).parents[1] / "goldens" / "mirror_mouse"


def relative(a, b):
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def only_weights(model, calibrated, rounded):
    """The float32 graph with weights as int8 has them."""
    graph = Graph(model)
    placement = place(graph)
    for node in graph.nodes:
        if node.name not in placement.layers:
            continue
        weights, axis = graph.array(node.input[1]), output_axis(node)
        scales = weight_scales(weights, axis)
        levels = nearest(weights, scales, axis).astype(np.float32)
        if rounded:
            levels += calibrated[node.name].change
            assert np.abs(levels).max() <= 127
            node.input[2] = graph.add_initializer(graph.array(node.input[2]) + calibrated[node.name].shift, "shifted")
        shape = [-1 if k == axis else 1 for k in range(weights.ndim)]
        node.input[1] = graph.add_initializer(levels * scales.reshape(shape), "rounded")
    return graph.finish()


def learned(model, crops):
    graph = Graph(model)
    placement = place(graph)
    found = calibrate(model, [crops], threads=1)
    return learn_rounding(graph, placement, found.ranges, [crops], threads=1)


def test_errors_cancel_on_crops_it_has_not_seen(build, kind, crops, run):
    model = build(kind)
    rounded = learned(model, crops[:8])
    assert set(rounded) == set(place(model).layers)
    exact = run(model, crops[8:])
    plain = relative(run(only_weights(model, rounded, False), crops[8:]), exact)
    better = relative(run(only_weights(model, rounded, True), crops[8:]), exact)
    # a third less even for random weights, eight crops and activations that are hardly alike
    assert better < 0.67 * plain


def test_the_same_crops_give_the_same_bytes(build, kind, crops):
    model = build(kind)
    made = [
        quantize(model, calibrate(model, batches, threads=1), unsigned=True).model.SerializeToString()
        for batches in ([crops], [crops])
    ]
    assert made[0] == made[1]


def test_both_variants_have_the_same_levels(build, crops):
    model = build("residual")
    found = calibrate(model, [crops], threads=1)

    def levels(**options):
        graph = quantize(model, found, **options).model.graph
        return {t.name: t.raw_data for t in graph.initializer if t.name.endswith("/int8")}

    assert levels(unsigned=True) == levels(unsigned=False) == levels(fallback_dtype="float16")


def test_a_layer_in_float_has_its_own_weights(build, crops, run):
    model = build("residual")
    found = calibrate(model, [crops], threads=1)
    layers = place(model).layers
    others = quantize(model, found, float_nodes=layers[1:], unsigned=True).model
    everything = quantize(model, found, unsigned=True).model
    exact = run(model, crops)
    assert relative(run(others, crops), exact) < relative(run(everything, crops), exact)


def test_a_dozen_photographs_are_enough_for_others():
    """A trained network's heatmaps on twenty frames that it was not calibrated on."""
    contract = Contract.from_file(MOUSE / "contract.yaml")
    model = with_crops(onnx.load(MOUSE / "network.onnx"), contract)
    sets = []
    for name, count in (("calib", 12), ("test", 20)):
        coco = json.loads((MOUSE / f"{name}.json").read_text())
        sets.append(list(crops_from_coco(coco, folder(MOUSE / "images"), contract, count)))
    learn, judge = sets[0], np.concatenate(sets[1])
    found = calibrate(model, learn, threads=1)
    exact = infer(model, judge, 1)[0]

    def error(one):
        return relative(infer(quantize(model, one, unsigned=True).model, judge, 1)[0], exact)

    assert error(found) < 0.85 * error(dataclasses.replace(found, rounded={}))


def test_rounding_of_another_shape_is_refused(build, crops):
    model = build("residual")
    found = calibrate(model, [crops], threads=1)
    one = next(iter(found.rounded))
    wrong = dataclasses.replace(found.rounded[one], change=np.zeros((1, 1, 1, 1), np.int8))
    broken = dataclasses.replace(found, rounded={**found.rounded, one: wrong})
    with pytest.raises(CalibrationError, match=rf"{one!r} has weights of the shape .* rounding is of \(1, 1, 1, 1\)"):
        quantize(model, broken, unsigned=True)


def test_a_scale_is_rounded_up_to_what_is_stored():
    scales = np.array([0.0, 1e-12, 1 / 3, 1.0])
    for dtype in (np.float16, np.float32):
        found = representable(scales, dtype)
        assert (found >= scales).all() and (found.astype(dtype).astype(np.float64) == found).all()
        assert found[0] == 1 and found[3] == 1 and found[2] < 1 / 3 * (1 + 2**-10)


def test_a_product_learns_too(net, crops, run):
    n = net()
    x = n.relu(n.conv(n.x, 3, 32, stride=2))
    x = n.add("Reshape", [x, n.constant(np.array([0, 32, 256], np.int64))])
    x = n.add("Transpose", [x], perm=[0, 2, 1])
    weights = n.rng.standard_normal((32, 48)).astype(np.float32)
    x = n.add("MatMul", [x, n.constant(weights)])
    x = n.add("Transpose", [n.relu(x)], perm=[0, 2, 1])
    x = n.add("Reshape", [x, n.constant(np.array([0, 48, 16, 16], np.int64))])
    model = n.model(n.conv(x, 48, 17, kernel=1))
    onnx.checker.check_model(model, full_check=True)
    found = calibrate(model, [crops], threads=1)
    product = next(node.name for node in Graph(model).nodes if node.op_type == "MatMul")
    assert np.abs(found.rounded[product].change).sum() > 0
    exact = run(model, crops)
    plain = quantize(model, dataclasses.replace(found, rounded={}), unsigned=True).model
    assert relative(run(quantize(model, found, unsigned=True).model, crops), exact) < relative(run(plain, crops), exact)
