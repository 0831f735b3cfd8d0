"""The small commands behind docs/decisions.md run, on a network that takes no time, and what they print adds up."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posert.benchmarks import batches, decode, startup, streams
from posert.runtime.pose.decode import decode as joints

pytest.importorskip("openvino")


def run(module: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    monkeypatch.setattr(sys, "argv", ["x", *map(str, arguments), "--json"])
    assert module.main() == 0
    return json.loads(capsys.readouterr().out)


def test_startup(narrow_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--precision", "fp32", "--threads", 1, "--rounds", 1, "--people", "1,2", "--throughput")
    result = run(startup, monkeypatch, capsys, narrow_bundle, *options)
    assert result["engine"] == "openvino fp32"
    for kind in ("cold", "warm"):
        row = result[kind]
        assert row["total"] == pytest.approx(sum(row[name] for name in startup.STAGES[:-1]))
        assert all(row[name] > 0 for name in startup.STAGES) and row["slowest"] >= row["total"]
        assert row["peak_mb"] is None or 50 < row["peak_mb"] < 1000
    assert len(list(startup._table(result))) == 4


def test_the_clock_of_a_start_begins_before_any_library() -> None:
    code = "import sys; from posert.benchmarks.harness.first import work; print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_startup_says_why_a_process_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["x", str(tmp_path / "none.pose"), "--rounds", "1"])
    with pytest.raises(SystemExit, match="no such file"):
        startup.main()


def test_batches(narrow_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--precision", "fp32", "--sizes", "1,3", "--static", "2", "--rounds", 2)
    rows = run(batches, monkeypatch, capsys, narrow_bundle, *options)
    assert [row["name"] for row in rows] == ["dynamic, 1", "dynamic, 3", "compiled in, 2"]
    assert all(row["ms_per_person"] > 0 for row in rows)


def test_streams(narrow_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rows = run(streams, monkeypatch, capsys, narrow_bundle, "--precision", "fp32", "--sizes", "8", "--rounds", 1)
    assert [row["mode"] for row in rows] == ["latency"] * 2 + ["throughput"] * 3
    assert rows[0]["ratio"] == 1 and rows[0]["in_flight"] == 1


def test_decode(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(decode, monkeypatch, capsys, "--rounds", 1, "--people", "2")
    assert set(result["ms_per_person"]) == set(decode.RULES)
    for rule in decode.RULES:  # the maps are such that every rule finds its way
        xy, score = joints((decode.blobs(rule, 2),), replace(decode.CONTRACT, decode=rule))
        assert np.isfinite(xy).all() and (score > 0).all()
