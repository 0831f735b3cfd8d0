"""Factors per channel leave the network's function alone, and make its channels alike."""

from __future__ import annotations

import numpy as np
import pytest

from posert.calib.equalise import channel_scales, equalise
from posert.calib.graph import Graph
from posert.calib.placement import place
from posert.calib.ranges import CalibrationState, collect


def observed(model, crops):
    state = CalibrationState()
    collect(model, [crops], place(model).tensors, state=state, threads=1)
    return state.observers


def test_the_network_computes_the_same(build, kind, crops, run):
    model = build(kind)
    graph = Graph(model)
    scales = channel_scales(graph, observed(model, crops))
    assert scales, "some tensor of each kind can be equalised"
    equalise(graph, scales)
    before, after = run(model, crops), run(graph.finish(), crops)
    assert np.abs(after - before).max() < 1e-4 * np.abs(before).max()  # float32 in another order


def test_channels_become_alike_and_none_grows_beyond_the_largest(build, crops):
    model = build("residual")
    before = observed(model, crops)
    graph = Graph(model)
    scales = channel_scales(graph, before)
    equalise(graph, scales)
    after = observed(graph.finish(), crops)
    spread = []
    for name, scale in scales.items():
        if name == "transpose0.out":
            continue  # normalised images, see test_pixels.py
        assert scale.min() >= 0.1 and scale.max() == 1
        if name not in before:
            continue
        size, now = (np.maximum(-seen[name].lo, seen[name].hi) for seen in (before, after))
        assert now == pytest.approx(size / scale, rel=1e-4)
        assert now.max() <= size.max() * (1 + 1e-4)
        alive = size > 0
        spread.append(np.std(np.log(now[alive])) / np.std(np.log(size[alive])))
    assert np.mean(spread) < 0.8


def test_what_an_addition_joins_has_the_same_factors(build, crops):
    model = build("residual")
    graph = Graph(model)
    scales = channel_scales(graph, observed(model, crops))
    for node in graph.nodes:
        if node.op_type == "Add":
            first, *others = (scales[name] for name in (*node.input, node.output[0]))
            assert all(np.array_equal(first, other) for other in others)


def test_outputs_and_what_concat_joins_are_left(build, crops):
    model = build("concat")
    graph = Graph(model)
    scales = channel_scales(graph, observed(model, crops))
    left = {"heatmaps"}
    left |= {name for node in graph.nodes if node.op_type == "Concat" for name in (*node.input, *node.output)}
    assert not left & scales.keys()


def test_weights_that_two_layers_share_are_left(net, crops):
    n = net()
    x = n.relu(n.conv(n.x, 3, 16))
    y = n.relu(n.conv(x, 16, 16))
    z = n.relu(n.conv(y, 16, 16))
    n.nodes[-2].input[1] = n.nodes[-4].input[1]
    model = n.model(n.conv(z, 16, 17, kernel=1))
    graph = Graph(model)
    scales = channel_scales(graph, observed(model, crops))
    assert x not in scales and y not in scales and z not in scales
