"""`posert bench` on a real bundle: its rows, its files, its verdicts, and what it does where something is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from posert.runtime import PoseEstimator
from posert.runtime.bench import measure, worker
from posert.runtime.bench.compare import compare, load, summary
from posert.runtime.bench.measure import Settings, Side, Worker, WorkerError, processors
from posert.runtime.bench.scene import crowd
from posert.runtime.bench.table import table
from posert.runtime.bench.worker import _Longer
from posert.runtime.cli.commands import bench as latency
from posert.runtime.cli.main import main
from posert.runtime.errors import InputError

QUICK = ("--people", "1,2", "--rounds", "1", "--backend", "openvino", "--precision", "fp32")


@pytest.fixture(autouse=True)
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "WHOLE", 0.0)
    monkeypatch.setattr(measure, "STAGE", 0.0)
    monkeypatch.setattr(measure, "YARDSTICK", 0.0)
    monkeypatch.setattr(measure, "_WARM_UP", 0.0)


@pytest.fixture(scope="module")
def result(narrow_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One measured for real, by the command line and in a file."""
    path = tmp_path_factory.mktemp("bench") / "a.json"
    with pytest.MonkeyPatch.context() as patch:
        short_turns.__wrapped__(patch)  # type: ignore[attr-defined]
        assert main(["bench", str(narrow_bundle), *QUICK, "--output", str(path)]) == 0
    return load(path)


def test_rows_of_both_modes(result: dict[str, Any]):
    cells = {(c["backend"], c["precision"], c["mode"]): c for c in result["cells"]}
    assert set(cells) == {("openvino", "fp32", "latency"), ("openvino", "fp32", "throughput")}
    parts = {(r["part"], r["people"]) for r in cells["openvino", "fp32", "latency"]["rows"]}
    stages = {(part, n) for part in ("crop", "bare engine", "decode", "whole") for n in (1, 2)}
    assert parts == stages | {("decode image", 0)}
    throughput = cells["openvino", "fp32", "throughput"]["rows"]
    assert {(r["part"], r["people"]) for r in throughput} == {(p, n) for p in ("bare engine", "whole") for n in (1, 2)}
    assert all(r["frames"] >= 4 for r in throughput)
    assert all(s > 0 for c in cells.values() for r in c["rows"] for one in r["seconds"] for s in one)
    assert all(c["peak_mb"] > 20 for c in cells.values())


def test_a_result_says_what_was_measured(result: dict[str, Any], narrow_bundle: Path):
    assert result["bundle"]["name"] == "narrow-coco-128x96" and result["bundle"]["path"] == str(narrow_bundle)
    assert result["settings"]["flip_test"] is False and result["machine"]["cpu"]["cores"] >= 1
    text = "\n".join(table(result))
    assert "no flip test" in text and "not measured on this backend" in text
    assert "energy: " in text and "governor: " in text and "GPU: " in text


def test_the_parts_of_the_road_make_the_whole(narrow_bundle: Path, tmp_path: Path):
    import cv2

    from posert.runtime.bench.stages import latency as parts_of

    frame, boxes = crowd(2)
    cv2.imwrite(str(tmp_path / "frame.png"), frame)
    pose = PoseEstimator(narrow_bundle, backend="openvino", precision="fp32", flip_test=True)
    parts = {(p.name, p.people): p.call for p in parts_of(pose, tmp_path / "frame.png", boxes, [2])}
    read = parts["decode", 2].args[0]  # type: ignore[attr-defined] - people whose joints the stage reads
    parts["decode", 2]()
    np.testing.assert_array_equal(read.xy, pose(frame, boxes).xy)
    np.testing.assert_array_equal(parts["decode image", 0](), frame)


def test_the_bare_engine_of_a_stream_does_the_same_runs(narrow_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    from posert.runtime.backends import openvino
    from posert.runtime.bench.stages import _bare_stream, _stream

    runs: list[int] = []
    start = openvino._Request.start

    def noting(self: Any, crops: Any) -> None:
        runs.append(len(crops))
        start(self, crops)

    monkeypatch.setattr(openvino._Request, "start", noting)
    frame, boxes = crowd(3)
    pose = PoseEstimator(narrow_bundle, backend="openvino", precision="fp32", throughput=True)
    bare = _bare_stream(pose, frame, boxes, 5)
    runs.clear()
    bare()
    engine = runs.copy()
    runs.clear()
    _stream(pose, frame, boxes, 5)
    assert runs == engine and sum(runs) == 15


def test_what_cannot_run_is_a_row(narrow_bundle: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["--people", "1", "--rounds", "1", "--backend", "tensorrt,openvino", "--mode", "latency"]
    assert main(["bench", str(narrow_bundle), *arguments, "--precision", "int8,fp32"]) == 0
    text = capsys.readouterr().out
    assert "not measured: tensorrt: missing" in text and 'pip install "posert[tensorrt]"' in text
    assert "not measured: openvino int8 latency: " in text and "posert build --precision int8" in text
    assert "openvino fp32 latency" in text


def test_a_worker_that_dies_is_a_row(narrow_bundle: Path, tmp_path: Path):
    scene = measure.Scene(tmp_path, 1)
    side = Side(narrow_bundle)
    worker = Worker(side, ("openvino", "fp32", "latency"), Settings((1,)), scene)
    worker.open()
    worker._process.kill()
    with pytest.raises(WorkerError, match="ended with status -9"):
        worker.ask(do="time", part=0, burst=0)
    worker.close()
    broken = Side(narrow_bundle, python="/bin/false")
    worker = Worker(broken, ("openvino", "fp32", "latency"), Settings((1,)), scene)
    with pytest.raises(WorkerError, match="ended with status 1"):
        worker.open()
    worker.close()


def test_a_planted_slow_down_has_its_size(monkeypatch: pytest.MonkeyPatch):
    """By a clock of its own: 60 % more than the call alone, to the millisecond in which the clock is looked at."""
    now = 0.0

    def look() -> float:
        nonlocal now
        now += 0.001
        return now

    def work() -> None:
        nonlocal now
        now += 0.02

    clock = SimpleNamespace(perf_counter=lambda: now, process_time=lambda: now, thread_time=look)
    monkeypatch.setattr(worker, "time", clock)
    longer = _Longer(work, 1.6)
    for _ in range(5):
        longer()
    assert now == pytest.approx(5 * 1.6 * 0.02, abs=5 * 0.002)


def test_an_interrupt_keeps_what_there_is(
    narrow_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    asked: list[str] = []
    ask = Worker.ask

    def until(self: Worker, **values: Any) -> dict[str, Any]:
        asked.append(values["do"])
        if asked.count("yardstick") == 3:
            raise KeyboardInterrupt
        return ask(self, **values)

    monkeypatch.setattr(Worker, "ask", until)
    arguments = ["--people", "1", "--rounds", "4", "--backend", "openvino", "--precision", "fp32"]
    assert main(["bench", str(narrow_bundle), *arguments, "--output", str(tmp_path / "a.json")]) == 130
    (cell,) = load(tmp_path / "a.json")["cells"]
    assert all(len(row["seconds"]) == 2 for row in cell["rows"])
    assert "interrupted" in capsys.readouterr().out


def made_up(
    rng: np.random.Generator, times: float, session: str, drift: float = 1.0, rounds: int = 40
) -> dict[str, Any]:
    """A result in which the whole takes `times` as long, on a machine that is `drift` times as slow."""
    noise = np.exp(rng.normal(0, 0.03, (3, rounds)))
    rows = [
        {"part": part, "people": 1, "frames": 1, "joules": [None] * rounds, "seconds": [[t] for t in seconds.tolist()]}
        for part, seconds in (("whole", 0.02 * times * drift * noise[0]), ("bare engine", 0.019 * drift * noise[1]))
    ]
    cell = {
        **{"backend": "openvino", "precision": "int8", "mode": "latency", "rows": rows},
        "launches": [i // 2 for i in range(rounds)],
        "yardstick": [[t] for t in (0.01 * drift * noise[2]).tolist()],
    }
    return {
        **{"kind": "posert bench", "schema": 1, "session": session, "date": "2026-01-01", "cells": [cell]},
        "bundle": {"name": "net", "path": "net.pose"},
        "versions": {"posert": "1"},
        "machine": {"cpu": {"name": "one"}, "gpu": "none"},
    }


@pytest.mark.parametrize(("noise", "rounds"), [(0.01, 40), (0.2, 120)])
def test_a_noisy_machine_takes_more_rounds(
    noise: float, rounds: int, narrow_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Workers whose times are made up: the number of rounds follows from their noise and not from what they say."""
    rng = np.random.default_rng(1)

    def launch(sides: Any, cell: Any, settings: Any, scene: Any, records: list[dict[str, Any]], stack: Any) -> Any:
        for record in records:
            record.setdefault("rows", [{"part": "whole", "people": 1, "frames": 1, "seconds": [], "joules": []}])
            record.setdefault("launches", [])
        return list(zip("ab", records, strict=False))

    def rounds_of(workers: list[Any], in_turn: bool, rounds: int, launch: int, meters: Any) -> None:
        for side, record in workers:
            times = 0.02 * (1.3 if side == "b" else 1) * np.exp(rng.normal(0, noise, rounds))
            record["rows"][0]["seconds"] += [[t] for t in times.tolist()]
            record["launches"] += [launch] * rounds

    monkeypatch.setattr(measure, "_launch", launch)
    monkeypatch.setattr(measure, "_rounds", rounds_of)
    sides, settings = [Side(narrow_bundle)] * 2, Settings((1,), rounds=40)
    scene, meters = measure.Scene(tmp_path, 1), measure.Meters()
    a, b = measure.measure(sides, ("openvino", "fp32", "latency"), settings, scene, meters)
    assert len(a["rows"][0]["seconds"]) == len(b["launches"]) == rounds
    assert len(set(a["launches"])) == rounds // 2
    (alone,) = measure.measure(sides[:1], ("openvino", "fp32", "latency"), settings, scene, meters)
    assert len(alone["launches"]) == 40


def test_what_can_never_be_clear_takes_no_more_rounds():
    row = {"part": "whole", "seconds": [[1.0], [2.0], [1.0], [3.0], [1.0], [9.0]]}
    record = {"rows": [row], "launches": [0, 0, 1, 1, 2, 2]}
    assert measure.clear([record, record])  # of three launches
    assert measure.clear([{"error": "no such backend"}, record]) and measure.clear([{"error": "gone"}] * 2)


@pytest.mark.parametrize("session", ["same", "other"])
def test_verdicts(session: str):
    rng = np.random.default_rng(0)
    a = made_up(rng, 1.0, "same")
    assert summary(compare(a, made_up(rng, 1.0, session))) == "no difference"
    assert summary(compare(a, made_up(rng, 1.1, session))) == "1 of 1 slower"
    assert summary(compare(a, made_up(rng, 0.8, session))) == "1 of 1 faster"


def test_a_machine_that_became_slower_is_no_difference():
    rng = np.random.default_rng(0)
    a, later = made_up(rng, 1.0, "first"), made_up(rng, 1.0, "second", drift=1.3)
    (verdict,) = compare(a, later)
    assert verdict.ratio.verdict == "no difference"
    assert verdict.ratio.low < 1.02 and verdict.ratio.high > 1.28  # what was seen is not hidden
    assert verdict.ratio.point == pytest.approx(1, abs=0.03)


def test_compare_as_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rng = np.random.default_rng(0)
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    a.write_text(json.dumps(made_up(rng, 1.0, "s")))
    b.write_text(json.dumps(made_up(rng, 1.2, "s")))
    assert main(["bench", "compare", str(a), str(a)]) == 0
    capsys.readouterr()
    assert main(["bench", "compare", str(a), str(b), "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["summary"] == "1 of 1 slower" and answer["rows"][0]["ratio"]["verdict"] == "slower"


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"kind": "posert bench", "schema": 99}'])
def test_files_that_are_no_result(tmp_path: Path, content: str):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(InputError, match="posert bench"):
        load(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.pose", "--people", "0"], "expected 1 or more"),
        (["x.pose", "--people", "many"], "1,5,20"),
        (["x.pose", "--backend", "openvivo"], "Did you mean openvino"),
        (["x.pose", "--mode", "fast"], "unknown mode"),
        (["x.pose", "--cpus", "99999"], "this process may use"),
        (["x.pose", "y.pose"], "--against"),
        (["x.pose", "--against", "y.pose", "--rounds", "11"], "a comparison needs 12 or more"),
        (["compare", "a.json"], "two files"),
        (["x.pose"], "no such file"),
    ],
)
def test_mistakes_are_named(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    assert main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_processors():
    mine = processors("0")
    assert mine == (0,)
    for wrong in ("", "a", "99999"):
        with pytest.raises(ValueError):
            processors(wrong)


def test_no_torch_is_needed():
    code = (
        "import sys; import posert.runtime.cli.commands.bench, posert.runtime.bench.worker; "
        "print([m for m in ('torch', 'onnx', 'scipy', 'rich', 'pycocotools') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_the_crowd_is_the_same_for_everybody():
    frame, boxes = crowd(20)
    assert frame.shape == (1080, 1920, 3) and frame.dtype == np.uint8 and boxes.shape == (20, 4)
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= (1920, 1080)).all() and (boxes[:, 2:] > boxes[:, :2]).all()
    np.testing.assert_array_equal(crowd(1)[0], frame)
    np.testing.assert_array_equal(crowd(1)[1], boxes[:1])
    assert crowd(40, 360, 640)[0].shape == (360, 640, 3) and len(crowd(40)[1]) == 40


def test_settings_come_from_the_options():
    import argparse

    parser = argparse.ArgumentParser()
    latency.add_arguments(parser)
    args = parser.parse_args(["x.pose", "--people", "3", "--threads", "2", "--flip-test"])
    assert latency.settings(args) == Settings((3,), 20, 2, None, True)
    assert latency.settings(parser.parse_args(["x.pose", "--against", "y.pose"])).rounds == 40
