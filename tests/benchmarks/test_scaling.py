"""Scaling and accuracy on a real bundle: cells in processes, a run that goes on, failures as rows, the frontier."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from posert.benchmarks import accuracy, scaling
from posert.benchmarks.harness.environments import Answer, ToolError
from posert.benchmarks.harness.frontier import Point, best, frontier
from posert.export.demo.people import write
from posert.runtime.backends import openvino
from posert.runtime.errors import InputError

CELL = {"ms": 10.0, "p95_ms": 12.0, "per_second": 100.0, "calls": 5, "people": 5}


def test_a_cell_is_measured_for_real(narrow_bundle: Path):
    arguments = {"bundle": str(narrow_bundle), "backend": "openvino", "precision": "fp32", "seconds": 0.0}
    cell = scaling.call(sys.executable, "posert.benchmarks.scaling:network", {**arguments, "batch": 3})
    assert cell.value["people"] == 3 and 0 < cell.value["ms"] <= cell.value["p95_ms"] and cell.peak_mb > 20
    together = {**arguments, "people": 1, "height": 180, "width": 320, "count": 2}
    both = scaling.call(sys.executable, "posert.benchmarks.scaling:processes", together).value
    assert both["calls"] >= 2 and both["per_second"] > 0 and both["peak_mb"] > 40
    start = scaling.start(str(narrow_bundle), "openvino", "fp32", people=2)
    assert start["people"] == 2 and 0 < start["ms"] < 60_000 and start["cold_ms"] > 0 and start["peak_mb"] > 20


def test_a_process_that_ends_is_told_and_not_waited_for(narrow_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scaling, "_PATIENCE", 5.0)
    with pytest.raises(ToolError, match=r"not all of 2 processes answered; .* ended: \[1, 1\]"):
        scaling.processes(str(narrow_bundle), "openvino", "no such precision", 1, 180, 320, 2, 0.0)


def test_a_stopped_run_goes_on(narrow_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    output, asked = tmp_path / "scaling.json", list[tuple[str, dict[str, Any]]]()

    def call(python: str, function: str, arguments: dict[str, Any]) -> Answer:
        asked.append((function, arguments))
        if len(asked) == 3:
            raise KeyboardInterrupt
        if arguments.get("width") == 3840:
            raise ToolError("it was ended\nno memory")
        return Answer({**CELL, "cold_ms": 20.0}, 1.0, 150.0)

    monkeypatch.setattr(scaling, "call", call)
    arguments = (str(narrow_bundle), "openvino", "fp32", 0.1, output)
    with pytest.raises(KeyboardInterrupt):
        scaling.sweep(*arguments)
    assert list(json.loads(output.read_text())["cells"]) == ["people 1", "people 2"]
    result = scaling.sweep(*arguments)
    keys = [key for key, *_ in scaling.cells(0.1)]
    assert len(asked) == 3 + len(keys) - 2 and set(result["cells"]) == set(keys)
    text = "\n".join(scaling.table(result))
    assert "frame 3840x2160       not measured: no memory" in text and "start 5 people" in text
    scaling.sweep(*arguments)  # asks for the one that failed, and for nothing else
    assert asked[-1][1]["width"] == 3840 and len(asked) == 3 + len(keys) - 2 + 1


def test_accuracy_of_every_precision_and_what_is_missing(
    narrow_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    spec = replace(openvino.BACKEND, precisions={"fp32": "fp32", "int8": "int8"})  # the bundle holds the first
    monkeypatch.setattr(openvino, "BACKEND", spec)
    annotations = write(tmp_path / "people", "val", 2)
    arguments = [str(narrow_bundle), "--annotations", str(annotations), "--images", str(tmp_path / "people/images")]
    arguments += ["--backend", "openvino,tensorrt", "--seconds", "0", "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["accuracy", *arguments])
    assert accuracy.main() == 0
    rows = json.loads((tmp_path / "out/accuracy.json").read_text())["rows"]
    measured = [r for r in rows if "ap" in r]
    assert {(r["precision"], r["flip_test"]) for r in measured} == {("fp32", False), ("fp32", True)}
    assert all(r["ap"] < 0.01 and r["ms_per_person"] > 0 and r["people"] >= 2 for r in measured)  # random weights
    assert [r["backend"] for r in rows if "error" in r] == ["tensorrt"]
    assert "not measured: missing" in capsys.readouterr().out
    ET.parse(tmp_path / "out/frontier.svg")
    monkeypatch.setattr(accuracy, "call", lambda *_: pytest.fail("finished cells are not measured again"))
    assert accuracy.main() == 0


def test_images_without_annotations(narrow_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["accuracy", str(narrow_bundle), "--images", "x"])
    assert accuracy.main() == 2


def test_the_frontier_is_what_nothing_beats():
    points = [Point(name, ms, ap, "net", False) for name, ms, ap in (("a", 1, 0.5), ("b", 2, 0.4), ("c", 3, 0.7))]
    assert [p.label for p in best(points)] == ["a", "c"]
    assert [p.label for p in best([*points, Point("d", 1, 0.7, "net", False)])] == ["d"]
    root = ET.fromstring(frontier(points))
    labels = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "a" in labels and "c" in labels and "b" not in labels
    ET.fromstring(frontier([]))
    ET.fromstring(frontier(points[:1]))


def test_an_unknown_bundle_is_named(tmp_path: Path):
    with pytest.raises(InputError, match="choose another place"):
        scaling.sweep("x.pose", "auto", "auto", 1.0, tmp_path)
