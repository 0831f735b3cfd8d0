"""The comparison of quantisers on the demo network: real graphs, tools that fail, and finished rows."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino as ov
import pytest

from posert.benchmarks import quantizer_tools, quantizers
from posert.benchmarks.child import ToolError
from posert.benchmarks.quantizer_table import certain, p95_ratio
from posert.benchmarks.quantizer_tools import Validation
from posert.benchmarks.quantizers import QuantizerBench, Tool
from posert.calib import clipping, equalise, qdq
from posert.calib.calibrated import calibrate
from posert.calib.qdq import quantize
from posert.export.catalog import find
from posert.export.graph.reference import Reference, random_crops
from posert.export.graph.to_onnx import with_crops
from posert.runtime.bench.timing import interleave

IMAGES, PEOPLE = 12, 6
CONTRACT = find("hrnet_demo").contract()
OURS, OURS_GPU, FLOAT, ORT = quantizers.OURS, quantizers.OURS_GPU, quantizers.FLOAT, "ONNX Runtime, min-max, uint8"
MISSING = "NNCF, mixed"


def run(output: Path, *more: str) -> int:
    return quantizers.main(["--people", "6", "--images", "12", "--rounds", "6", "--output", str(output), *more])


DEMO = "hrnet_demo-coco-256x192"  # the folder of its files


@pytest.fixture(scope="module")
def three() -> Any:
    """The tools are ours for CPUs and for GPUs, one of ONNX Runtime's, and one that cannot be installed."""

    def missing(name: str, requirements: Any) -> Path:
        raise ToolError(f"{name} cannot be installed: pip install {' '.join(requirements)}\nno such version")

    everything = quantizers.tools(CONTRACT, Path("validation"))
    with pytest.MonkeyPatch.context() as patch:
        some = {name: everything[name] for name in (OURS, OURS_GPU, ORT, MISSING)}
        patch.setattr(quantizers, "tools", lambda contract, validation: some)
        patch.setattr(quantizers, "environment", missing)
        patch.setattr(quantizers, "interleave", partial(interleave, warm_up=0.0))
        yield


@pytest.fixture(scope="module")
def output(three: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("quantizers") / "out.jsonl"
    assert run(path) == 0
    return path


@pytest.fixture(scope="module")
def rows(output: Path) -> dict[str, dict[str, Any]]:
    return {r["tool"]: r for line in output.read_text().splitlines()[1:] for r in [json.loads(line)[1]]}


def test_the_graph_itself_loses_nothing(rows: dict[str, dict[str, Any]]):
    float32 = rows[FLOAT]
    # OpenVINO's float32 against PyTorch's: the order of sums moves a joint by thousandths of a pixel.
    assert (
        abs(float32["accuracy_drop"]) < 1e-3 and float32["pixel_drift_p95"] < 0.01 and float32["heatmap_error"] < 1e-3
    )


def test_every_ablation_gives_another_graph(narrow_reference: Reference, narrow_onnx: onnx.ModelProto, tmp_path: Path):
    contract = narrow_reference.contract
    onnx.save(with_crops(narrow_onnx, contract), tmp_path / "fp32.onnx")
    np.save(tmp_path / "crops.npy", random_crops(contract, 8))
    settings = (equalise, "POWER"), (clipping, "CLIPPED_WEIGHT"), (equalise, "find_pixels"), (qdq, "find_pixels")
    fp32, crops, int8 = (str(tmp_path / name) for name in ("fp32.onnx", "crops.npy", "int8.onnx"))
    graphs = set()
    for changed in quantizers.ABLATION.values():
        with pytest.MonkeyPatch.context() as patch:
            for module, name in settings:  # the tool has a process of its own and does not put them back
                patch.setattr(module, name, getattr(module, name))
            quantizer_tools.posert(fp32, crops, int8, contract.to_json(), changed=changed)
        graphs.add(Path(int8).read_bytes())
    assert len(graphs) == len(quantizers.ABLATION)


def test_ours_is_what_the_product_makes(output: Path, rows: dict[str, dict[str, Any]]):
    crops = np.load(output.with_suffix("") / DEMO / "crops.npy")
    assert crops.shape == (PEOPLE, 256, 192, 3)
    fp32 = onnx.load(rows[FLOAT]["file"])
    found = calibrate(fp32, [crops])
    assert onnx.load(rows[OURS]["file"]) == quantize(fp32, found, unsigned=True).model


def test_ours_for_gpus_is_symmetric_and_float16_between(rows: dict[str, dict[str, Any]]):
    graph = onnx.load(rows[OURS_GPU]["file"]).graph
    kinds = {t.name: t.data_type for t in graph.initializer}
    zero_points = [kinds[n.input[2]] for n in graph.node if n.op_type == "QuantizeLinear" and len(n.input) > 2]
    assert onnx.TensorProto.UINT8 not in zero_points
    assert onnx.TensorProto.FLOAT16 in kinds.values()


def test_entropy_is_more_than_min_max_only_with_more_bins(
    output: Path, rows: dict[str, dict[str, Any]], tmp_path: Path
):
    """By ONNX Runtime's default there are as many bins as levels, and the one range to choose is that of min-max."""
    crops = tmp_path / "crops.npy"
    np.save(crops, np.load(output.with_suffix("") / DEMO / "crops.npy")[:2])
    graphs = []
    for method, bins in (("MinMax", None), ("Entropy", None), ("Entropy", 256)):
        graphs.append(tmp_path / f"{method}{bins}.onnx")
        quantizer_tools.onnxruntime(rows[FLOAT]["file"], str(crops), str(graphs[-1]), method, True, bins)
    minmax, default, more = (path.read_bytes() for path in graphs)
    assert default == minmax and more != minmax


def test_quantised_rows_have_every_figure(rows: dict[str, dict[str, Any]]):
    assert set(rows) == {FLOAT, OURS, OURS_GPU, ORT}
    for name in (OURS, OURS_GPU, ORT):
        row = rows[name]
        kinds = {n.op_type for n in onnx.load(row["file"]).graph.node}
        assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
        # int8 moves joints by tenths of a pixel: less would mean that nothing was quantised, more that it is broken.
        assert 0.01 < row["dark_drift_median"] < row["dark_drift_p95"] < 2
        assert row["seconds"] > 0 and 50 < row["peak_mb"] < 2000


def test_finished_rows_are_kept_and_failed_ones_tried_again(
    output: Path, rows: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    made: list[str] = []

    def call(python: object, function: str, arguments: dict[str, Any], memory_gb: float) -> None:
        made.append(function)
        raise ToolError(f"{function} was ended at 8.1 GB of memory; the limit is 8 GB")

    monkeypatch.setattr(quantizers, "environment", lambda name, requirements: Path("python"))
    monkeypatch.setattr(quantizers, "call", call)
    before = output.read_bytes()
    assert run(output) == 0
    assert made == ["posert.benchmarks.quantizer_tools:nncf"] and output.read_bytes() == before
    text = capsys.readouterr().out
    lines = {line.split(" | ")[0].strip("|* "): line for line in text.splitlines() if line.startswith("| ")}
    assert "the limit is 8 GB" in lines[MISSING]
    for name in (FLOAT, OURS, ORT):
        for rule in ("pixel", "dark"):
            assert f"{rows[name][f'{rule}_drift_median']:.3f} / {rows[name][f'{rule}_drift_p95']:.3f}" in lines[name]
    times = [float(lines[name].split(" | ")[-1].strip("| ")) for name in (FLOAT, OURS, ORT)]
    assert min(times) == 1  # the fastest in units of itself
    assert f"p95 drift under DARK, {OURS}: " in text


def test_mistakes_are_told(output: Path, capsys: pytest.CaptureFixture[str]):
    assert run(output, "--", "--arch", "hrnet_demp", "--weights", "demo") == 2
    assert "hrnet_demo" in capsys.readouterr().err
    assert run(output, "--", "--arch", "hrnet_w32", "--weights", "random") == 2
    assert "add labelled images to judge it on, --annotations FILE --images DIR" in capsys.readouterr().err


def test_accuracy_control_gets_the_ap_of_its_people(output: Path, rows: dict[str, dict[str, Any]]):
    folder = output.with_suffix("") / DEMO / "validation"
    contract = replace(CONTRACT, decode="unbiased")
    validation = Validation(str(folder), contract.to_json())
    core = ov.Core()
    compiled = core.compile_model(core.read_model(rows[FLOAT]["file"]), "CPU")
    whole = validation.average_precision(compiled, list(range(40)))
    # The demo network finds nearly all of these people's joints; somebody else's crops would give next to nothing.
    assert whole > 0.85
    one = validation.average_precision(compiled, [7])
    assert 0 <= one <= 1
    shifted = Validation(str(folder), replace(contract, padding=3.0).to_json())  # other crops than it was trained on
    assert shifted.average_precision(compiled, list(range(40))) < 0.8 * whole


def row(**changes: Any) -> dict[str, Any]:
    values = {"accuracy_drop_interval": [-0.001, 0.002], "ratio": {"point": 1.0, "low": 0.99, "high": 1.01}}
    return {**values, **changes}


def test_only_what_intervals_decide_is_said():
    rows = {
        FLOAT: row(accuracy_drop_interval=[0.1, 0.2]),
        OURS: row(to_ours={OURS_GPU: (0.8, 0.7, 0.9)}),
        OURS_GPU: row(to_ours={OURS: (1.2, 1.1, 1.3)}) | {"ratio": {"point": 1.5, "low": 1.4, "high": 1.6}},
        "worse": row(to_ours={OURS: (1.5, 1.01, 2), OURS_GPU: (1.1, 0.9, 1.4)}, accuracy_drop_interval=[0.001, 0.01]),
        "better": row(to_ours={OURS: (0.8, 0.7, 0.99), OURS_GPU: (0.6, 0.5, 0.7)}),
        "gone": {"failed": "x"},
    }
    lines = certain(rows, "AP")
    assert lines[0] == (
        f"- p95 drift under DARK, {OURS}: less than that of {OURS_GPU}; worse; more than that of better; undecided "
        "against none"
    )
    assert lines[1] == (
        f"- p95 drift under DARK, {OURS_GPU}: less than that of none; more than that of {OURS}; better; undecided "
        "against worse"
    )
    assert lines[2] == "- AP: a loss is certain for worse"
    assert lines[3] == f"- time: ours is certainly faster than {OURS_GPU}; slower than none"
    assert certain({OURS: {"failed": "no"}}, "AP") == ["Ours failed: see its row."]


def test_the_ratio_of_percentiles_is_numpys_and_its_interval_covers_it():
    rng = np.random.default_rng(0)
    image = np.repeat(np.arange(60), 2)
    theirs = rng.exponential(size=(120, 17)).astype(np.float32)
    ours = (theirs * 0.5 * rng.lognormal(0, 0.3, theirs.shape)).astype(np.float32)
    ours[3, 5] = theirs[7, 2] = np.nan
    point, low, high = p95_ratio(image, ours, theirs)
    both = np.isfinite(ours) & np.isfinite(theirs)
    assert point == pytest.approx(np.quantile(ours[both], 0.95) / np.quantile(theirs[both], 0.95))
    assert low < point < high and high - low < 0.3
    same = p95_ratio(image, theirs, theirs)
    assert same == (1, 1, 1)


def test_the_key_follows_the_tool_and_the_crops(output: Path):
    bench = object.__new__(QuantizerBench)
    bench._digest = "a"
    tools = quantizers.tools(CONTRACT, output)
    keys = {name: bench.key(tool) for name, tool in tools.items()}
    assert len(set(keys.values())) == len(tools) == 4
    assert bench.key(Tool("posert", {"contract": CONTRACT.to_json(), "changed": {"rounding": 0}})) != keys[OURS]
    bench._digest = "b"
    assert not set(keys.values()) & {bench.key(tool) for tool in tools.values()}
