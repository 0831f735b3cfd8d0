"""Engines of all families: what is wrong is told, and finished rows are not built again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest

from posert.benchmarks import engines
from posert.benchmarks.child import Answer
from posert.benchmarks.engines import NAMES, count, problem, write_graphs
from posert.export import catalog


def row(key: str = "hrnet_w32-int8-half", **changes: Any) -> dict[str, Any]:
    values = {
        "key": key,
        "model": "mm_hrnet_w32_coco_256x192",
        "opset": 19,
        "int8": 5,
        "layers_in_graph": 7,
        "layers": {
            "ACTIVATION HALF": 4,
            "CONVOLUTION HALF": 2,
            "CONVOLUTION HALF of INT8": 4,
            "DECONVOLUTION HALF of INT8": 1,
            "DEQUANTIZE HALF": 9,
            "QUANTIZE INT8": 6,
        },
        "targets": ["sm75", "sm86", "sm89", "sm120"],
        "graph_mb": 30.0,
        "engine_mb": 40.0,
        "seconds": 9.0,
        "cpu_seconds": 4.0,
        "peak_gb": 0.7,
        "version": "1.7.1",
        "date": "2026-11-20",
        "machine": {"cpu": "A processor", "cores": 2},
    }
    return {**values, **changes}


def test_convolutions_are_counted_with_the_transposed_ones() -> None:
    assert (count(row(), " of INT8"), count(row(), "")) == (5, 7)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"int8": 6}, "5 of 6 quantised layers are int8"),
        ({"layers_in_graph": 8}, "the parser kept 7 of 8 convolutions and matrix products"),
        ({"cpu_seconds": 21.0}, "21 s of the processor, more than 20"),
        ({"peak_gb": 1.6}, "1.6 GB, more than 1.5"),
        ({"peak_gb": 1.6, "model": "mm_hourglass52_coco_256x256"}, ""),  # the bounds are hrnet_w32's
    ],
)
def test_problems(changes: dict[str, Any], said: str) -> None:
    assert problem(row(**changes)) == said


def test_an_interrupted_run_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def call(python: str, function: str, arguments: dict[str, str]) -> Answer:
        if function.endswith(":write_graphs"):
            Path(arguments["folder"]).mkdir(exist_ok=True)
            for name in NAMES:
                Path(arguments["folder"], f"{arguments['family']}-{name}.onnx").touch()
            return Answer(None, 1.0, 1.0)
        asked.append(Path(arguments["path"]).stem)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return Answer({name: value for name, value in row().items() if name != "key"}, 1.0, 1.0)

    monkeypatch.setattr(engines, "call", call)
    command = ["hrnet_w32", "--output", str(tmp_path / "engines.jsonl")]
    assert engines.main(command) == 130
    assert engines.main(command) == 0
    kinds = [key.removeprefix("hrnet_w32-") for key in asked]
    assert kinds == ["fp16", "int8-half", "int8", "int8", "int8-opset17"]
    line = "| int8-half | 19 | 30.0 | 40.0 | 9.0 | 4.0 | 0.70 | 5 of 7 | 6 / 9 | half (4) | all |"
    assert f"| mm_hrnet_w32_coco_256x192 {line}" in capsys.readouterr().out
    assert not list(tmp_path.rglob("*.onnx"))


def test_products_count_as_layers() -> None:
    layers = {"CONVOLUTION HALF of INT8": 2, "MATRIX_MULTIPLY HALF": 3, "MATRIX_MULTIPLY HALF of INT8": 4}
    assert problem(row(layers=layers, int8=6, layers_in_graph=9)) == ""


@pytest.mark.parametrize("family", ["simcc", "vit"])
def test_graphs_of_a_family_with_products(family: str, tmp_path: Path) -> None:
    write_graphs(family, str(tmp_path))
    assert {p.name for p in tmp_path.iterdir()} == {f"{family}-{name}.onnx" for name in ("fp32", *NAMES[:3])}
    model = onnx.load(tmp_path / f"{family}-int8-half.onnx")
    note = json.loads(model.metadata_props[0].value)
    # their weights are not constant, or they give SimCC's vectors: 2 of 7 and 4 products of attention, and 2 outputs
    layers = sum(node.op_type in ("Conv", "MatMul") for node in model.graph.node)
    floats = {"simcc": 4 + depthwise(model), "vit": 8}[family]
    assert layers - note["int8"] == floats


def depthwise(model: onnx.ModelProto) -> int:
    """Depthwise convolutions, which stay float."""
    nodes = [node for node in model.graph.node if node.op_type == "Conv"]
    return sum(any(a.name == "group" and a.i > 1 for a in node.attribute) for node in nodes)


def test_graphs_of_a_family(tmp_path: Path) -> None:
    """The demo network stands for all: both twins, in both operator sets."""
    write_graphs("hrnet_demo", str(tmp_path))
    assert {p.name for p in tmp_path.iterdir()} == {f"hrnet_demo-{name}.onnx" for name in NAMES}
    types = {}
    for name in NAMES:
        model = onnx.load(tmp_path / f"hrnet_demo-{name}.onnx")
        (note,) = (json.loads(p.value) for p in model.metadata_props)
        kinds = {t.name: t.data_type for t in model.graph.initializer}
        rest = {kinds[n.input[2]] for n in model.graph.node if n.op_type == "Conv"}
        types[name] = (note["opset"], rest)
        assert (note["int8"] > 0) == name.startswith("int8")
        assert note["model"] in catalog.rows()
    half, single = {onnx.TensorProto.FLOAT16}, {onnx.TensorProto.FLOAT}
    assert types == {"fp16": (19, half), "int8-half": (19, half), "int8": (19, single), "int8-opset17": (17, single)}
