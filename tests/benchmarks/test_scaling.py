"""Scaling and accuracy on a real bundle: cells in processes, a run that resumes, failures as rows, the frontier."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from posert.benchmarks import accuracy, cold_start, scaling
from posert.benchmarks.child import Answer, ToolError, call
from posert.export.demo.people import write
from posert.runtime.backends import openvino

CELL = {"ms": 10.0, "p95_ms": 12.0, "per_second": 100.0, "people": 5}


def test_cells_are_measured_for_real(narrow_bundle: Path):
    arguments = {"bundle": str(narrow_bundle), "backend": "openvino", "precision": "fp32", "seconds": 0.0}
    cell = call(sys.executable, "posert.benchmarks.scaling:network", {**arguments, "batch": 3})
    assert cell.value["people"] == 3 and 0 < cell.value["ms"] <= cell.value["p95_ms"] and cell.peak_mb > 20
    both = scaling.processes(**arguments, count=2)  # type: ignore[arg-type]
    assert both["people"] == 5 and both["per_second"] > 0 and both["peak_mb"] > 40


def test_a_process_that_ends_is_told(narrow_bundle: Path):
    with pytest.raises(ToolError, match=r"one of 2 processes ended with status 1: .*no such precision"):
        scaling.processes(str(narrow_bundle), "openvino", "no such precision", 0.0, 2)


def test_the_stages_of_a_start_make_the_whole(narrow_bundle: Path):
    found = cold_start.measure(str(narrow_bundle), "openvino", "fp32", 2, rounds=1)
    for row in found.values():
        assert row["total"] == pytest.approx(sum(row[name] for name in cold_start.STAGES))
        assert all(row[name] > 0 for name in cold_start.STAGES) and 50 < row["peak_mb"] < 1000


def test_the_clock_of_a_start_begins_before_any_library():
    code = "import sys; from posert.benchmarks.cold_start import first_keypoints; print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_a_stopped_run_resumes(narrow_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple[str, dict[str, Any]]] = []
    stages = dict.fromkeys((*cold_start.STAGES, "total", "cpu"), 1.0) | {"peak_mb": 5.0}

    def fake_call(python: str, function: str, arguments: dict[str, Any]) -> Answer:
        asked.append((function, arguments))
        if len(asked) == 3:
            raise KeyboardInterrupt
        if arguments.get("width") == 3840:
            raise ToolError("it was ended\nno memory")
        start = {"warm": stages, "cold": stages} if function.endswith(":start") else {}
        return Answer({**CELL, **start}, 1.0, 150.0)

    monkeypatch.setattr(scaling, "call", fake_call)
    arguments = (str(narrow_bundle), "openvino", "fp32", 0.1, tmp_path / "scaling.jsonl")
    with pytest.raises(KeyboardInterrupt):
        scaling.sweep(*arguments)
    setting, measured = scaling.sweep(*arguments)
    keys = [key for key, *_ in scaling.cells(0.1)]
    assert len(asked) == 3 + len(keys) - 2 and list(measured) == keys
    text = "\n".join(scaling.table(setting, measured))
    assert "not measured: no memory" in text and "start 5 people, cold cache" in text
    scaling.sweep(*arguments)  # asks for the one that failed, and for nothing else
    assert asked[-1][1]["width"] == 3840 and len(asked) == 3 + len(keys) - 2 + 1


def test_accuracy_of_every_precision_and_what_is_missing(
    narrow_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    spec = replace(openvino.BACKEND, precisions={"fp32": "fp32", "int8": "int8"})  # the bundle holds the first
    monkeypatch.setattr(openvino, "BACKEND", spec)
    annotations = write(tmp_path / "people", "val", 2)
    arguments = [str(narrow_bundle), "--annotations", str(annotations), "--images", str(tmp_path / "people/images")]
    arguments += ["--backend", "openvino,tensorrt", "--seconds", "0", "--output", str(tmp_path / "out.jsonl")]
    assert accuracy.main(arguments) == 0
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if line.startswith("narrow")]
    assert [line.split()[1:3] for line in rows] == [["openvino", "fp32"]] * 2 + [["tensorrt", "not"]]
    assert "flip test" in rows[1] and "not measured: missing" in rows[2]
    assert any(row.endswith("*") for row in rows[:2])  # which of them is a matter of time
    monkeypatch.setattr(accuracy, "call", lambda *_: pytest.fail("finished cells are not measured again"))
    assert accuracy.main(arguments) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("narrow")] == rows


def test_images_without_annotations(narrow_bundle: Path, tmp_path: Path):
    assert accuracy.main([str(narrow_bundle), "--images", "x", "--output", str(tmp_path / "out.jsonl")]) == 2


def test_the_frontier_is_what_nothing_beats():
    points = [(1.0, 0.5), (2.0, 0.4), (3.0, 0.7)]
    assert accuracy.frontier(points) == [(1.0, 0.5), (3.0, 0.7)]
    assert accuracy.frontier([*points, (1.0, 0.7)]) == [(1.0, 0.7)] and accuracy.frontier([]) == []
