"""The ablation's graphs are what their rows say, and the table shows what was measured."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from posert.benchmarks import calibration
from posert.benchmarks.harness import ablation, quantize
from posert.calib.methods import method as find_method
from posert.calib.qdq import place
from posert.calib.sensitivity import infer
from posert.export.graph.reference import random_crops
from posert.export.graph.to_onnx import with_crops


@pytest.fixture(scope="module")
def given(tmp_path_factory, narrow_onnx, narrow_reference):
    """Files of a graph and of crops, and the contract as JSON values."""
    folder = tmp_path_factory.mktemp("ablation")
    contract = narrow_reference.contract
    onnx.save(with_crops(narrow_onnx, contract), folder / "fp32.onnx")
    np.save(folder / "crops.npy", random_crops(contract, 3))
    return {"model": str(folder / "fp32.onnx"), "crops": str(folder / "crops.npy")}, contract.to_json(), folder


def made(given, **arguments):
    files, contract, folder = given
    target = str(folder / "made.onnx")
    asked = {"method": "minmax", "unsigned": True, **arguments}
    assert ablation.int8(**files, target=target, contract=contract, **asked) > 0
    model = onnx.load(target)
    onnx.checker.check_model(model, full_check=True)
    return model


def ops(model):
    return Counter(n.op_type for n in model.graph.node)


def test_one_side_alone(given):
    both = ops(made(given))
    weights, activations = (ops(made(given, only=kind)) for kind in ("weights", "activations"))
    layers = len(place(onnx.load(given[0]["model"])).layers)
    assert weights["QuantizeLinear"] == 0 and weights["DequantizeLinear"] == layers
    assert activations["QuantizeLinear"] == activations["DequantizeLinear"] == both["QuantizeLinear"]
    assert both["DequantizeLinear"] == weights["DequantizeLinear"] + activations["DequantizeLinear"]


def test_the_parts_err_less_than_the_whole(given):
    crops = np.load(given[0]["crops"])
    reference = infer(onnx.load(given[0]["model"]), crops, 1)
    whole, weights, activations = (
        np.linalg.norm(infer(made(given, only=kind), crops, 1) - reference) for kind in (None, "weights", "activations")
    )
    assert 0 < weights < whole and 0 < activations < whole
    # independent errors add by their squares
    assert whole == pytest.approx(np.hypot(weights, activations), rel=0.3)


def test_bias_correction_and_equal_channels_change_the_constants(given):
    plain = {t.name: numpy_helper.to_array(t) for t in made(given).graph.initializer}
    for option in ("bias", "equal"):
        changed = {t.name: numpy_helper.to_array(t) for t in made(given, **{option: True}).graph.initializer}
        assert changed.keys() != plain.keys()


def test_the_trap_quantises_the_output_too(given):
    plain, trap = made(given), made(given, output=True)
    assert trap.graph.output[0].name == plain.graph.output[0].name == "heatmaps"
    assert ops(trap)["QuantizeLinear"] == ops(plain)["QuantizeLinear"] + 1
    crops = np.load(given[0]["crops"])
    assert len(np.unique(infer(trap, crops, 1))) <= 256 < len(np.unique(infer(plain, crops, 1)))


def test_float16(given):
    files, _, folder = given
    ablation.float16(**files, target=str(folder / "made.onnx"))
    assert ops(onnx.load(folder / "made.onnx"))["Cast"] > 0


def test_rows_name_methods_and_functions_that_exist():
    rows = calibration.settings({"dataset": "coco"})
    assert {calibration.BASE, calibration.TRAP, "fp16", "mse, unsigned", "keypoints, signed"} <= set(rows)
    for function, arguments in rows.values():
        module, name = function.split(":")
        assert callable(getattr({"ablation": ablation, "quantize": quantize}[module], name))
        if "contract" in arguments:
            find_method(arguments["method"])


def test_an_unknown_row_is_refused_before_any_work(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["calibration", "--only", "mse, unsinged"])
    assert calibration.main() == 2
    assert "unknown row 'mse, unsinged'. Did you mean mse, unsigned" in capsys.readouterr().err


def test_the_table():
    judged = {"people": 9, "ap_drop": 0.001, "ap_drop_interval": [-0.002, 0.003], "pixel_drift_median": 0.05}
    cost = {"seconds": 3.2, "peak_mb": 412.0}
    rows = {
        calibration.BASE: {**judged, **cost, "pixel_drift_p95": 0.4},
        "mse, unsigned": {**judged, **cost, "pixel_drift_p95": 0.1},
        "fp16": {**cost, "failed": "OpenVINO: no"},
    }
    machine = {"cpu": "a CPU", "cores": 2}
    text = calibration.table({"model": "m", "calibration_people": 8, "machine": machine, "rows": rows}).splitlines()
    assert "9 held-out people, 8 to calibrate on; a CPU, 2 cores" in text[0]
    assert text[5] == "| mse, unsigned | +0.0010 (-0.0020 to +0.0030) | 0.050 / 0.100 | 0.25 | 3 | 412 |"
    assert text[6] == "| fp16 | OpenVINO: no |  |  | 3 | 412 |"
