"""An interrupted calibration goes on to the same result."""

from __future__ import annotations

import copy

import pytest

from posert.calib.ranges import CalibrationState, collect


def tensors(model):
    return [n.output[0] for n in model.graph.node if n.op_type in ("Relu", "Conv")]


@pytest.mark.parametrize("stop", range(1, 12))
def test_going_on_gives_what_one_run_gives(build, crops, stop):
    model = build("deconv", size=32)
    batches = [crops[:5], crops[5:10], crops[10:]]
    whole = CalibrationState()
    expected = collect(model, batches, tensors(model), state=whole, threads=1)

    class Killed(Exception):
        pass

    cut, kept = CalibrationState(), None

    def kill(done):
        nonlocal kept
        if done >= stop:
            kept = copy.deepcopy(cut)
            raise Killed

    with pytest.raises(Killed):
        collect(model, batches, tensors(model), state=cut, progress=kill, threads=1)
    assert kept is not None and stop <= kept.crops < stop + 8
    again = collect(model, batches, tensors(model), state=kept, threads=1)
    assert again == expected and again.curve == expected.curve
    for name, one in whole.observers.items():
        assert one.to_json() == kept.observers[name].to_json()
