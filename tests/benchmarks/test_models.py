"""The run over all models: it resumes, names what is missing and finds what is wrong."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from posert.benchmarks import models
from posert.benchmarks.child import Answer, ToolError, call
from posert.benchmarks.script import open_journal
from posert.export import catalog

DEMO = "demo_hrnet_coco_256x192"


def record(id: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": id,
        "size": "256x192",
        "keypoints": 17,
        "macs": 10,
        "macs_published": 10,
        "nodes": 114,
        "megabytes": {"fp32": 5.0, "int8": 1.3},
        "errors": {"fp32": 1e-6, "torchscript": 1e-6, "fp16": 1e-3, "int8": 0.05},
        "failed": [],
        "seconds_fp32": 20.0,
        "seconds": 30.0,
        "gigabytes_fp32": 0.7,
        "gigabytes": 0.8,
        "machine": {"cpu": "one", "cores": 2},
        "versions": {"torch": "2"},
    } | changes


def test_a_run_that_failed_for_one_row_tries_that_one_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    ids, output = [id for id in catalog.rows() if "mspn" in id], tmp_path / "models.jsonl"
    asked: list[str] = []

    def build(python: str, function: str, arguments: dict[str, Any]) -> Answer:
        asked.append(arguments["id"])
        if asked.count(ids[2]) == 1 and arguments["id"] == ids[2]:
            raise ToolError("it was ended\nno memory")
        return Answer(record(arguments["id"]), 1.0, 1.0)

    monkeypatch.setattr(models, "call", build)
    assert models.main(["mspn", "--output", str(output)]) == 1
    out, err = capsys.readouterr()
    assert "3 of 4 rows" in out and out.count("| ok |") == 3 and f"{ids[2]} could not be built: no memory" in err
    assert models.main(["mspn", "--output", str(output)]) == 0 and asked == [*ids, ids[2]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, ""),
        ({"failed": ["openvino int8"]}, "openvino int8 differs from PyTorch"),
        ({"macs": 11}, "11 multiply-adds instead of 10"),
        ({"seconds_fp32": 121.0}, "more than 120 s of the processor"),
        ({"gigabytes_fp32": 4.1}, "more than 4 GB"),
    ],
)
def test_problems_are_found(changes: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    output = tmp_path / "models.jsonl"
    with open_journal(output, "models") as journal:
        journal.add(record(DEMO, **changes))
    assert models.main([DEMO, "--output", str(output)]) == bool(message)
    assert f"| {message or 'ok'} |" in capsys.readouterr().out


@pytest.mark.all_models
def test_a_row_is_built_in_a_process_of_its_own():
    seen = call(sys.executable, "posert.benchmarks.models:measure", {"id": DEMO}).value
    assert not models.problems(seen) and seen["macs"] == catalog.row(DEMO).macs_test_path
    assert 0 < seen["seconds_fp32"] < seen["seconds"] and 0.1 < seen["gigabytes_fp32"] <= seen["gigabytes"]
