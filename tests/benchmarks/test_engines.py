"""The table of engines: what is wrong is said, and finished rows are not made again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

from posert.benchmarks import engines
from posert.benchmarks.engines import count, main, names, table, trouble, write_graphs
from posert.export import catalog


def row(key: str = "hrnet_w32-int8-half", **changes: Any) -> dict[str, Any]:
    values = {
        "key": key,
        "model": "mm_hrnet_w32_coco_256x192",
        "opset": 19,
        "int8": 5,
        "convolutions": 7,
        "layers": {
            "ACTIVATION HALF": 4,
            "CONVOLUTION HALF": 2,
            "CONVOLUTION HALF of INT8": 4,
            "DECONVOLUTION HALF of INT8": 1,
            "DEQUANTIZE HALF": 9,
            "QUANTIZE INT8": 6,
        },
        "targets": ["sm75", "sm86"],
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
        ({"int8": 6}, "5 of 6 quantised convolutions are int8"),
        ({"convolutions": 8}, "the parser kept 7 of 8 convolutions"),
        ({"cpu_seconds": 21.0}, "21 s of the processor, more than 20"),
        ({"peak_gb": 1.6}, "1.6 GB, more than 1.5"),
        ({"peak_gb": 1.6, "model": "mm_hourglass52_coco_256x256"}, ""),  # the bounds are hrnet_w32's
    ],
)
def test_troubles(changes: dict[str, Any], said: str) -> None:
    assert trouble(row(**changes)) == said


def test_the_table() -> None:
    text = table([row(), row("hrnet_w32-fp16", int8=0, layers={"CONVOLUTION HALF": 7}), row(int8=6)])
    assert "| mm_hrnet_w32_coco_256x192 | int8-half | 19 | 30.0 | 40.0 | 9.0 | 4.0 | 0.70 | 5 of 7 | 6 / 9 |" in text
    assert "Troubles:" in text and text.count("\n* ") == 1
    assert table([]) == "no engine was built\n"


def test_finished_rows_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def process(*arguments: str) -> str:
        asked.append(arguments)
        if arguments[0] == "--graphs":
            for name in names():
                (tmp_path / f"{arguments[1]}-{name}.onnx").write_bytes(b"")
            return ""
        if len(asked) == 4:
            raise KeyboardInterrupt
        return json.dumps({name: value for name, value in row().items() if name != "key"})

    monkeypatch.setattr(engines, "_process", process)
    command = ["engines", "hrnet_w32", "--state", str(tmp_path), "--output", str(tmp_path / "engines.md")]
    monkeypatch.setattr(sys, "argv", command)
    assert main() == 130
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('\n{"key": "hrnet_w32-int8", "cut')  # as a full disk leaves it
    assert main() == 0
    assert [a[1].rpartition("/")[2] for a in asked if a[0] == "--build"] == [
        *("hrnet_w32-fp16.onnx", "hrnet_w32-int8-half.onnx"),
        *("hrnet_w32-int8.onnx", "hrnet_w32-int8.onnx", "hrnet_w32-int8-opset17.onnx"),
    ]
    assert (tmp_path / "engines.md").read_text().count("| mm_hrnet_w32") == len(list(names()))
    assert not list(tmp_path.glob("*.onnx"))


def test_graphs_of_a_family(tmp_path: Path) -> None:
    """The demo network stands for all: both twins, in both operator sets."""
    write_graphs("hrnet_demo", tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {f"hrnet_demo-{name}.onnx" for name in names()}
    types = {}
    for name in names():
        model = onnx.load(tmp_path / f"hrnet_demo-{name}.onnx")
        (note,) = (json.loads(p.value) for p in model.metadata_props)
        kinds = {t.name: t.data_type for t in model.graph.initializer}
        rest = {kinds[n.input[2]] for n in model.graph.node if n.op_type == "Conv"}
        types[name] = (note["opset"], rest)
        assert (note["int8"] > 0) == name.startswith("int8")
        assert note["model"] in catalog.rows()
    half, single = {onnx.TensorProto.FLOAT16}, {onnx.TensorProto.FLOAT}
    assert types == {"fp16": (19, half), "int8-half": (19, half), "int8": (19, single), "int8-opset17": (17, single)}
