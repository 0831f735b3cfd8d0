"""Ranges of activations against numpy on all crops at once, streaming properties, and broken input."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest

from posert.calib.clipping import find_range
from posert.calib.observers import Observer, Range
from posert.calib.ranges import CalibrationState, collect
from posert.runtime.errors import CalibrationError


def tensors(model):
    return [n.output[0] for n in model.graph.node if n.op_type in ("Relu", "Conv", "Transpose")]


def every_value(model, run, crops, name):
    wide = type(model)()
    wide.CopyFrom(model)
    wide.graph.output[0].name = name
    del wide.graph.output[0].type.tensor_type.shape.dim[:]
    wide.graph.output[0].type.tensor_type.ClearField("shape")
    return run(wide, crops)


def test_extremes_are_numpys_over_all_crops(build, run, crops):
    model = build("exchange")
    names, state = tensors(model), CalibrationState()
    ranges = collect(model, [crops[:5], crops[5:]], names, state=state)
    assert list(ranges) == names
    for name in ("transpose0.out", "relu0.out", "conv1.out"):
        values, seen = every_value(model, run, crops, name), state.observers[name]
        # ONNX Runtime's fused kernels may add in another order than the literal graph
        assert seen.lo == pytest.approx(np.minimum(values.min(axis=(0, 2, 3)), 0), rel=1e-5, abs=1e-6)
        assert seen.hi == pytest.approx(np.maximum(values.max(axis=(0, 2, 3)), 0), rel=1e-5, abs=1e-6)
        assert ranges[name] == find_range(seen)


def test_memory_does_not_grow_with_crops():
    seen = Observer()
    values = np.random.default_rng(0).standard_normal((1, 16, 64, 64)).astype(np.float32)
    seen.update(values)
    tracemalloc.start()
    for _ in range(50):
        seen.update(values)
    left, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert left < 1 << 20


def test_batching_of_crops_does_not_matter(build, crops):
    model = build("exchange")
    names = tensors(model)
    whole = collect(model, [crops], names, threads=1)
    single = collect(model, (crops[i : i + 1] for i in range(len(crops))), names, threads=1)
    for name in names:
        # the network itself may add in another order for another batch size; the observers add nothing to that
        assert single[name].lo == pytest.approx(whole[name].lo, rel=1e-3, abs=1e-4)
        assert single[name].hi == pytest.approx(whole[name].hi, rel=1e-3, abs=1e-4)


def test_same_crops_same_ranges(build, crops):
    model = build("residual")
    first = collect(model, [crops], tensors(model), threads=1)
    assert first == collect(model, [crops], tensors(model), threads=1)


def test_curve_says_whether_more_crops_would_change_the_ranges(build, crops):
    model = build("exchange")
    names = tensors(model)
    same = collect(model, [crops[:1]] * 16, names, threads=1)
    assert [n for n, _ in same.curve] == [2, 4, 8, 16] and same.settled
    growing = (np.clip(120 + (crops[:1].astype(int) - 120) * k // 16, 0, 255).astype(np.uint8) for k in range(1, 17))
    moving = collect(model, growing, names, threads=1)
    # each doubling of the crops doubles their contrast: by then half of the range was unknown
    assert moving.curve[-1][0] == 16 and 0.3 < moving.curve[-1][1] < 0.6 and not moving.settled
    assert not collect(model, [crops[:1]], names).settled, "one crop tells nothing"


def test_ranges_as_json_are_exact(build, crops):
    model = build("exchange")
    ranges = collect(model, [crops], tensors(model))
    values = json.loads(json.dumps(ranges.to_json()))
    assert {name: Range(lo, hi) for name, (lo, hi) in values["ranges"].items()} == ranges
    assert [tuple(point) for point in values["curve"]] == ranges.curve


def test_progress_counts_crops(build, crops):
    model, seen = build("concat"), []
    collect(model, [crops, crops[:3]], tensors(model), progress=seen.append)
    assert seen[-1] == 15 and seen == sorted(set(seen))


def test_graph_input_and_output_can_be_observed(net):
    n = net(crops=False)
    model = n.model(n.conv(n.x, 3, 16))
    images = np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32)
    seen = collect(model, [images], ["images", "heatmaps"])
    assert seen["images"].lo == pytest.approx(images.min(), rel=0.2) and 0 < seen["images"].hi <= images.max()
    assert seen["heatmaps"].lo < 0 < seen["heatmaps"].hi


def test_ranges_hold_zero_and_join():
    seen = Observer()
    seen.update(np.array([2, 3], np.float32))
    assert Range(-1, 2) | Range(-3, 1) == Range(-3, 2)
    assert Range(-3, 2).amax == 3
    assert find_range(seen) == Range(0, 3)


@pytest.mark.parametrize("batches", [[], [np.zeros((0, 32, 32, 3), np.uint8)]])
def test_no_crops(build, batches):
    model = build("concat")
    with pytest.raises(CalibrationError, match="empty.*at least one crop"):
        collect(model, batches, tensors(model))


def test_unknown_tensor_offers_the_nearest(build, crops):
    with pytest.raises(CalibrationError, match="unknown float32 tensor 'relu0.ou'.*Did you mean relu0.out"):
        collect(build("concat"), [crops], ["relu0.ou"])


def test_nan_is_named_by_the_node_where_it_begins(net, crops):
    n = net()
    x = n.relu(n.conv(n.x, 3, 16))
    weights = np.ones((16, 16, 1, 1), np.float32)
    weights[3, 2] = np.nan
    y = n.conv(n.add("Neg", [n.conv(x, 16, 16, kernel=1, weights=weights)]), 16, 16)
    with pytest.raises(CalibrationError, match=r"'conv1' \(Conv\) gives NaN for calibration crop 0"):
        collect(n.model(y), [crops], ["neg0.out"])


def test_infinity_is_named_with_its_crop(net, crops):
    n = net()
    x = n.conv(n.x, 3, 16, weights=np.full((16, 3, 3, 3), 1e38, np.float32))
    model = n.model(n.conv(x, 16, 16))
    grey = np.full_like(crops[:2], 120)  # normalised to zero, for which nothing overflows
    with pytest.raises(CalibrationError, match=r"'conv0' \(Conv\) gives infinity for calibration crop 2"):
        collect(model, [grey, np.full_like(grey, 255)], ["conv0.out"])


def test_nan_in_a_float_input(net):
    n = net(crops=False)
    model = n.model(n.conv(n.x, 3, 16))
    images = np.zeros((4, 3, 32, 32), np.float32)
    images[2, 1, 5, 5] = np.nan
    with pytest.raises(CalibrationError, match="calibration crop 2 holds NaN.*'images'"):
        collect(model, [images], ["images"])
