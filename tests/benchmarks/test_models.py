"""The run over all models: it goes on where it was stopped, names what is missing and what is wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from posert.benchmarks import models
from posert.export import catalog
from posert.runtime.errors import PosertError

DEMO = "demo_hrnet_coco_256x192"


def record(id: str, **changes: Any) -> dict[str, Any]:
    errors = {"fp32": 1e-6, "torchscript": 1e-6, "fp16": 1e-3, "int8": 0.05}
    return {
        "id": id,
        "size": "256x192",
        "keypoints": 17,
        "macs": 10,
        "macs_published": 10,
        "nodes": 114,
        "megabytes": {"fp32": 5.0, "int8": 1.3},
        "errors": errors,
        "failed": [],
        "seconds_fp32": 20.0,
        "seconds": 30.0,
        "gigabytes_fp32": 0.7,
        "gigabytes": 0.8,
        "machine": {"cpu": "one", "cores": 2},
        "versions": {"torch": "2"},
    } | changes


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["models", *map(str, arguments)])
    return models.main()


def test_a_stopped_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ids = [id for id in catalog.rows() if "mspn" in id]
    state, output = tmp_path / "state.jsonl", tmp_path / "models.md"
    state.write_text(json.dumps(record(ids[0])) + "\n" + json.dumps(record(ids[1]))[:40])  # the second was cut off
    asked = []

    def build(id: str) -> dict[str, Any]:
        asked.append(id)
        if id == ids[2]:
            raise PosertError("no memory")
        return record(id)

    monkeypatch.setattr(models, "_in_a_process", build)
    assert run(monkeypatch, "mspn", "--state", state, "--output", output) == 1
    assert asked == ids[1:]
    page = output.read_text()
    assert f"3 of 4 rows. Not built: {ids[2]}." in page and page.count("| ok |") == 3
    asked.clear()
    monkeypatch.setattr(models, "_in_a_process", lambda id: asked.append(id) or record(id))
    assert run(monkeypatch, "mspn", "--state", state, "--output", output) == 0 and asked == [ids[2]]
    assert "4 of 4 rows.\n" in output.read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"failed": ["openvino int8"]}, "openvino int8 differs from PyTorch"),
        ({"macs": 11}, "11 multiply-adds instead of 10"),
        ({"seconds_fp32": 121.0}, "more than 120 s of the processor"),
        ({"gigabytes_fp32": 4.1}, "more than 4 GB"),
    ],
)
def test_trouble_is_told(
    changes: dict[str, Any],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    state = tmp_path / "state.jsonl"
    state.write_text(json.dumps(record(DEMO, **changes)) + "\n")
    assert run(monkeypatch, DEMO, "--state", state) == 1
    assert f"| {message} |" in capsys.readouterr().out


@pytest.mark.all_models
def test_a_row_is_built_in_a_process_of_its_own():
    seen = models._in_a_process(DEMO)
    assert not models.trouble(seen) and seen["macs"] == catalog.row(DEMO).macs_test_path
    assert 0 < seen["seconds_fp32"] < seen["seconds"] and 0.1 < seen["gigabytes_fp32"] <= seen["gigabytes"]
    with pytest.raises(PosertError, match="no_such could not be built"):
        models._in_a_process("no_such")
