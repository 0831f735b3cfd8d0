"""An interrupted calibration goes on to the same result, and two that saw different crops merge to that of all."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posert.calib.observers import HistogramObserver, MinMaxObserver
from posert.calib.ranges import CalibrationState, collect


def tensors(model):
    return [n.output[0] for n in model.graph.node if n.op_type in ("Relu", "Conv")]


@pytest.mark.parametrize("method", ["minmax", "mse", "percentile:99.9"])
@pytest.mark.parametrize("stop", range(1, 12))
def test_going_on_gives_what_one_run_gives(build, crops, method, stop):
    model = build("deconv", size=32)
    batches = [crops[:5], crops[5:10], crops[10:]]
    whole = CalibrationState()
    expected = collect(model, batches, tensors(model), method, state=whole, threads=1)

    class Killed(Exception):
        pass

    cut, kept = CalibrationState(), None

    def kill(done):
        nonlocal kept
        if done >= stop:
            kept = copy.deepcopy(cut)
            raise Killed

    with pytest.raises(Killed):
        collect(model, batches, tensors(model), method, state=cut, progress=kill, threads=1)
    assert kept is not None and stop <= kept.crops < stop + 8
    again = collect(model, batches, tensors(model), method, state=kept, threads=1)
    assert again == expected and again.curve == expected.curve
    for name, one in whole.observers.items():
        assert one.to_json() == kept.observers[name].to_json()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_absorbing_is_seeing_both_streams(data):
    seed = data.draw(st.integers(0, 2**32))
    # OpenCV counts in float64: beside values 2**46 times as large the smallest negative ones fall on zero's other side
    exponents = data.draw(st.lists(st.integers(-20, 20), min_size=2, max_size=2))
    rng = np.random.default_rng(seed)
    parts = [np.float32(2.0**e) * rng.standard_normal(50).astype(np.float32) for e in exponents]
    a, b, both = HistogramObserver(64), HistogramObserver(64), HistogramObserver(64)
    for one, part in zip((a, b), parts, strict=True):
        one.update(part)
        both.update(part)
    before = b.to_json()
    a.merge(b)
    assert a.to_json() == both.to_json()
    assert b.to_json() == before, "the other one stays as it was"


def test_what_was_kept_survives_json():
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32) * 1e-3
    for kind in (MinMaxObserver, HistogramObserver):
        one, other = kind(), kind()
        one.update(values)
        other.load_json(json.loads(json.dumps(one.to_json())))
        assert vars(one).keys() == vars(other).keys()
        assert all(np.array_equal(vars(one)[k], vars(other)[k]) for k in vars(one))


@pytest.mark.parametrize(
    "change",
    [
        {"lo": "x"},
        {"lo": 3.0},
        {"hi": float("inf")},
        {"counts": "AAAA"},
        {"counts": "not base64"},
        {"exponent": 4000},
        {"exponent": None},
    ],
)
def test_what_no_histogram_keeps_is_refused(change):
    one = HistogramObserver(64)
    one.update(np.array([-1, 2], np.float32))
    values = one.to_json()
    HistogramObserver(64).load_json(values)
    with pytest.raises((ValueError, KeyError, TypeError)):
        HistogramObserver(64).load_json({**values, **change})
