"""Ranges by what they do to joints: the arithmetic is the quantised graph's, and what matters to joints wins."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper

from posert.calib import keypoint_ranges
from posert.calib.graph import Graph
from posert.calib.histogram import Histogram, Range
from posert.calib.keypoint_ranges import Sample, refine
from posert.calib.methods import minmax, mse
from posert.calib.placement import place
from posert.calib.qdq import quantize
from posert.calib.ranges import collect, observe
from posert.calib.sensitivity import infer, keypoint_loss
from posert.runtime.bundle.contract import Contract
from posert.runtime.datasets import dataset
from posert.runtime.errors import CalibrationError


@pytest.fixture
def contract():
    coco = dataset("coco")
    return Contract(
        "coco", coco.keypoints, coco.flip_pairs, coco.skeleton, coco.sigmas, 32, 32, 32, 32, decode="unbiased"
    )


def spots(count=24):
    """Crops `(count, 32, 32, 3)` with one soft spot of another strength and place in each, on noise."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:32, :32]
    crops = []
    for _ in range(count):
        cx, cy = rng.uniform(8, 24, 2)
        spot = 220 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 18)
        crops.append(np.clip(spot[..., None] + rng.uniform(0, 25, (32, 32, 3)), 0, 255))
    return np.array(crops).astype(np.uint8)


def network(net, tail=1.0):
    """Blurs the spot into 17 heatmaps, through a tensor one of whose 16 channels is `tail` times larger and unread."""
    rng = np.random.default_rng(5)
    n = net()
    first = np.zeros((16, 3, 3, 3), np.float32)
    first[:, :, 1, 1] = rng.uniform(0.2, 0.3, (16, 1))
    first[0] *= tail
    x = n.relu(n.conv(n.x, 3, 16, weights=first))
    blur = np.outer([1, 2, 1], [1, 2, 1]).astype(np.float32) / 16
    last = np.zeros((17, 16, 3, 3), np.float32)
    last[:, 1:] = blur * rng.uniform(0, 2 / 15, (17, 15, 1, 1))
    return n.model(n.conv(x, 16, 17, weights=last), channels=17)


def seen_by(model, crops):
    tensors = place(Graph(model)).tensors
    return observe(model, [crops], tensors, Histogram, threads=1)


def test_a_channel_that_no_joint_reads_is_clipped(net, contract):
    """Squared error pays for the large unread channel; joints do not."""
    model, crops = network(net, tail=4.0), spots()
    seen = seen_by(model, crops)
    ranges = refine(model, seen, crops, contract, threads=1)
    assert ranges["relu0.out"].hi < 0.6 * mse(seen["relu0.out"]).hi


def test_joints_move_less_on_crops_that_were_not_searched(net, contract):
    model, crops = network(net, tail=4.0), spots(48)
    seen = seen_by(model, crops[:24])
    ours = refine(model, seen, crops[:16], contract, threads=1)
    theirs = {name: mse(one) for name, one in seen.items()}
    reference = infer(model, crops[24:], 1)

    def loss(ranges):
        maps = infer(quantize(model, ranges, unsigned=True).model, crops[24:], 1)
        return keypoint_loss(maps, reference, contract, 20)

    assert loss(ours) < 0.7 * loss(theirs)


def test_a_tried_scale_is_the_written_one(net, contract):
    """One group through the trial's arithmetic equals the Q/DQ graph with that group alone."""
    model, crops = network(net), spots(4)
    placed = place(Graph(model))
    seen = seen_by(model, crops)
    full = [minmax(seen[group[0]]) for group in placed.groups]
    trial = keypoint_ranges._Trial(model, placed, full, contract, 1)
    trial.look_at(crops)
    reference = infer(model, crops, 1)
    assert np.abs(trial._reference - reference).max() < 1e-5 * np.abs(reference).max()
    k = next(k for k, group in enumerate(placed.groups) if "relu0.out" in group)
    narrow = Range(0.0, 0.7 * full[k].hi)
    ranges = {name: narrow if name == "relu0.out" else minmax(seen[name]) for name in placed.tensors}
    made = quantize(model, ranges, unsigned=True).model
    graph = Graph(made)
    for node in graph.nodes:  # all in float again but the activation that is tried
        if node.op_type == "Conv":
            original = next(n for n in Graph(model).nodes if n.name == node.name)
            node.input[1] = graph.add_initializer(Graph(model).array(original.input[1]), original.input[1])
            rounded = graph.producer[graph.producer[node.input[0]].input[0]]
            if rounded.input[0] != "relu0.out":
                node.input[0] = rounded.input[0]
    expected = keypoint_loss(infer(graph.model, crops, 1), reference, trial._contract, keypoint_ranges._ZOOM)
    assert expected > 0
    assert trial.loss(k, narrow) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("kind", ["residual", "exchange", "deconv", "concat"])
def test_every_kind_of_graph(kind, build, crops, contract):
    model = build(kind)
    maps = infer(model, crops[:1], 1).shape
    shape = Contract(**{**vars(contract), "heatmap_height": maps[2], "heatmap_width": maps[3]})
    tensors = place(Graph(model)).tensors
    ranges = collect(model, [crops], tensors, "keypoints", threads=1, contract=shape)
    full = collect(model, [crops], tensors, threads=1)
    assert list(ranges) == list(full)
    for name, r in ranges.items():
        assert full[name].lo <= r.lo <= 0 <= r.hi <= full[name].hi
    quantize(model, ranges, unsigned=True)


def test_the_same_crops_give_the_same_bytes(net, contract):
    model, crops = network(net, tail=2.0), spots(20)
    seen = seen_by(model, crops)
    first, second = (refine(model, seen, crops[:16], contract, threads=1) for _ in range(2))
    assert first == second


def test_a_tensor_of_only_zero(net, contract):
    n = net()
    x = n.relu(n.conv(n.x, 3, 16, weights=np.zeros((16, 3, 3, 3), np.float32)))
    model = n.model(n.conv(x, 16, 17), channels=17)
    bias = next(t for t in model.graph.initializer if t.name == model.graph.node[-3].input[2])
    bias.CopyFrom(numpy_helper.from_array(np.zeros(16, np.float32), bias.name))
    crops = spots(4)
    ranges = collect(model, [crops], place(Graph(model)).tensors, "keypoints", threads=1, contract=contract)
    assert ranges["relu0.out"] == Range(0, 0)


def test_joints_need_a_contract(build, crops):
    model = build("residual")
    with pytest.raises(CalibrationError, match="'keypoints' decodes joints: give the contract"):
        collect(model, [crops], place(Graph(model)).tensors, "keypoints")


@pytest.mark.parametrize("count", [1, 5, 16, 31, 100, 1000])
def test_a_sample_is_spread_over_a_stream_of_any_length(count):
    stream = np.arange(count, dtype=np.int64).reshape(-1, 1, 1, 1)
    for size in (1, 7):
        sample = Sample([stream[i : i + size] for i in range(0, count, size)])
        passed = np.concatenate(list(sample))
        assert np.array_equal(passed, stream)
        kept = sample.crops.ravel()
        assert len(kept) == min(count, keypoint_ranges.CROPS) and (np.diff(kept) > 0).all()
        assert kept[0] == 0 and (count < 16 or kept[-1] >= 0.7 * count)
