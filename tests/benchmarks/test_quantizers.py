import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino as ov
import pytest

from posert.benchmarks import quantizers
from posert.benchmarks.harness import quantizing
from posert.benchmarks.harness.environments import ToolError
from posert.benchmarks.harness.quantize import Validation
from posert.benchmarks.harness.quantizing import Tool
from posert.calib.qdq import place, quantize
from posert.calib.ranges import collect
from posert.export.build.int8 import METHOD
from posert.export.catalog import find

IMAGES, PEOPLE = 12, 6
CONTRACT = find("hrnet_demo").contract()
OURS, FLOAT, ORT = quantizers.OURS, quantizers.FLOAT, "ONNX Runtime, min-max, uint8"


def run(monkeypatch: pytest.MonkeyPatch, output: Path, *more: object) -> int:
    options = ["--people", PEOPLE, "--images", IMAGES, "--rounds", 6, "--output", output, *more]
    monkeypatch.setattr("sys.argv", ["quantizers", *map(str, options)])
    return quantizers.main()


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command leaves for ours, one of ONNX Runtime's and a tool that cannot be installed."""
    path = tmp_path_factory.mktemp("quantizers") / "out.json"

    def missing(name: str, requirements: Any, root: Path | None = None) -> Path:
        raise ToolError(f"{name} cannot be installed: pip install {' '.join(requirements)}\nno such version")

    with pytest.MonkeyPatch.context() as patch:
        wanted = quantizers.tools(CONTRACT, path)
        some = {name: wanted[name] for name in (OURS, ORT, "NNCF, mixed")}
        patch.setattr(quantizers, "tools", lambda contract, validation: some)
        patch.setattr(quantizing, "environment", missing)
        assert run(patch, path) == 0
    return path


@pytest.fixture(scope="module")
def result(output: Path) -> dict[str, Any]:
    return json.loads(output.read_text())["demo_hrnet_coco_256x192"]


def test_the_graph_itself_loses_nothing(result: dict[str, Any]):
    float32 = result["rows"][FLOAT]
    # OpenVINO's float32 against PyTorch's: the order of sums moves a joint by thousandths of a pixel.
    assert abs(float32["ap_drop"]) < 1e-3 and float32["pixel_drift_p95"] < 0.01 and float32["heatmap_error"] < 1e-3
    assert float32["people"] >= IMAGES


def test_ours_is_what_the_product_makes(output: Path, result: dict[str, Any]):
    crops = np.load(output.with_suffix("") / "demo_hrnet_coco_256x192" / "crops.npy")
    assert crops.shape == (PEOPLE, 256, 192, 3)
    fp32 = onnx.load(result["rows"][FLOAT]["file"])
    ranges = collect(fp32, [crops], place(fp32).tensors, METHOD)
    made = quantize(fp32, ranges, unsigned=True).model
    assert onnx.load(result["rows"][OURS]["file"]) == made


def test_quantised_rows_have_every_figure(result: dict[str, Any]):
    for name in (OURS, ORT):
        row = result["rows"][name]
        kinds = {n.op_type for n in onnx.load(row["file"]).graph.node}
        assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
        # int8 moves joints by tenths of a pixel: less would mean that nothing was quantised, more that it is broken.
        assert 0.01 < row["pixel_drift_median"] < row["pixel_drift_p95"] < 2
        assert row["seconds"] > 0 and 50 < row["peak_mb"] < 2000 and row["ms_per_person"] > 0
        assert row["ratio"]["low"] <= row["ratio"]["point"] <= row["ratio"]["high"]
    assert result["rows"][result["fastest"]]["ratio"]["point"] == 1


def test_a_tool_that_cannot_be_installed_is_a_row_that_says_so(result: dict[str, Any]):
    assert result["rows"]["NNCF, mixed"]["failed"].startswith("nncf cannot be installed: pip install nncf==")
    page = quantizers.table(result)
    assert "| NNCF, mixed | nncf cannot be installed" in page and page.count("\n| ") == 5
    assert "place 1 of 2" in page or "place 2 of 2" in page


def test_the_page_has_each_finished_network(result: dict[str, Any]):
    page = quantizers.page({"one": result, "unfinished": {"rows": {}}})
    assert page.count("\n## ") == 1 and "## hrnet_demo\n\n`python -m posert.benchmarks.quantizers --people 6" in page
    assert quantizers.table(result) in page and "{" not in page


def test_finished_rows_are_kept_and_failed_ones_tried_again(
    output: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    before = json.loads(output.read_text())
    made = []

    def call(python: object, function: str, arguments: dict[str, Any], memory_gb: float) -> None:
        made.append(function)
        raise ToolError(f"{function} was ended at 8.1 GB of memory; 8 GB were allowed")

    everything = quantizers.tools(CONTRACT, output)
    some = {name: everything[name] for name in (OURS, ORT, "NNCF, mixed")}
    monkeypatch.setattr(quantizers, "tools", lambda contract, validation: some)
    monkeypatch.setattr(quantizing, "environment", lambda name, requirements: Path("python"))
    monkeypatch.setattr(quantizing, "call", call)
    monkeypatch.setattr(quantizing.Bench, "judge", None)
    monkeypatch.setattr(quantizing.Bench, "time", None)
    assert run(monkeypatch, output) == 0
    assert made == ["posert.benchmarks.harness.quantize:nncf"]
    after = json.loads(output.read_text())
    assert "8.1 GB" in after["demo_hrnet_coco_256x192"]["rows"]["NNCF, mixed"]["failed"]
    for name in (FLOAT, OURS, ORT):
        rows = (one["demo_hrnet_coco_256x192"]["rows"][name] for one in (before, after))
        assert next(rows) == next(rows)
    assert "8 GB were allowed" in capsys.readouterr().out


def test_accuracy_control_is_told_the_ap_that_the_judge_finds(output: Path, result: dict[str, Any]):
    folder = output.with_suffix("") / "demo_hrnet_coco_256x192" / "validation"
    validation = Validation(str(folder))
    core = ov.Core()
    compiled = core.compile_model(core.read_model(result["rows"][FLOAT]["file"]), "CPU")
    whole = validation.average_precision(compiled, list(range(40)))
    # The demo network finds nearly all of these people's joints; somebody else's crops would give next to nothing.
    assert whole > 0.85
    one = validation.average_precision(compiled, [7])
    assert 0 <= one <= 1
    shifted = Validation(str(folder))
    shifted._center = shifted._center + 30
    assert shifted.average_precision(compiled, list(range(40))) < 0.5 * whole


def row(**changes: float) -> dict[str, Any]:
    values = {"ap_drop": 0.001, "ap_drop_interval": [-0.001, 0.002], "pixel_drift_p95": 0.2, "peak_mb": 200.0}
    return {**values, "ratio": {"point": 1.0}, **changes}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"peak_mb": 100.0}, "peak memory, MB: ours 100, place 1 of 2; best of the others: other, 200"),
        ({"peak_mb": 300.0}, "peak memory, MB: ours 300, place 2 of 2; best of the others: other, 200"),
        ({"ap_drop": 0.002}, "AP lost: ours 0.0020, place 2 of 2; best of the others: other, 0.0010"),
        ({"ap_drop": -0.002}, "AP lost: ours 0.0000, place 1 of 2; best of the others: other, 0.0010"),
    ],
)
def test_where_ours_stands(changes: dict[str, float], expected: str):
    lines = quantizers.standing({FLOAT: row(peak_mb=1), OURS: row(**changes), "other": row(), "gone": {"failed": "x"}})
    assert f"- {expected}" in lines and len(lines) == 5
    assert lines[4].startswith("- 2 of 2 graphs, ours among them, lose so little")
    clear = row() | {"ap_drop_interval": [0.001, 0.002]}
    assert "- 1 of 2 graphs, not ours among them, lose" in quantizers.standing({OURS: clear, "other": row()})[4]
    assert quantizers.standing({OURS: {"failed": "no"}}) == ["Ours failed: see its row."]


def test_a_damaged_output_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    broken = tmp_path / "out.json"
    broken.write_text('{"rows": ')
    monkeypatch.setattr(quantizers, "Bench", None)
    assert run(monkeypatch, broken) == 2
    assert "is no table of quantizers" in capsys.readouterr().err
    assert run(monkeypatch, tmp_path / "out.json" / "x.json") == 2
    assert run(monkeypatch, broken, "--arch", "hrnet_demp") == 2
    assert "hrnet_demo" in capsys.readouterr().err


def test_the_key_follows_the_tool_and_the_crops(output: Path):
    bench = object.__new__(quantizing.Bench)
    bench.digest = "a"
    tools = quantizers.tools(CONTRACT, output)
    keys = {name: bench.key(tool) for name, tool in tools.items()}
    assert len(set(keys.values())) == len(tools) == 10
    assert bench.key(Tool("posert", {"contract": CONTRACT.to_json(), "method": "minmax"})) != keys[OURS]
    bench.digest = "b"
    assert not set(keys.values()) & {bench.key(tool) for tool in tools.values()}
