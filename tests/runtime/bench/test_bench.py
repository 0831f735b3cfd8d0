"""`posert bench` on a real bundle: its rows, its files, its verdicts, and what it does where something is missing."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posert.runtime import PoseEstimator
from posert.runtime.backends import load_backend
from posert.runtime.bench import measure, sweep
from posert.runtime.bench.compare import compare, load, summary
from posert.runtime.bench.measure import Settings, Side, Worker
from posert.runtime.bench.scene import crowd
from posert.runtime.bench.table import table
from posert.runtime.bundle.archive import Bundle
from posert.runtime.cli.commands import bench
from posert.runtime.cli.commands.bench import processors
from posert.runtime.cli.main import main
from posert.runtime.errors import InputError
from posert.runtime.system.process import ProcessError

QUICK = ("--people", "1,2", "--rounds", "1", "--backend", "openvino", "--precision", "fp32")


@pytest.fixture(autouse=True)
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "LONG_BURST", 0.0)
    monkeypatch.setattr(measure, "STAGE_BURST", 0.0)
    monkeypatch.setattr(measure, "YARDSTICK_BURST", 0.0)
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
    stages = {(r["stage"], r["people"]) for r in cells["openvino", "fp32", "latency"]["rows"]}
    steps = {(stage, n) for stage in ("crop", "inference only", "decode", "end to end") for n in (1, 2)}
    assert stages == steps | {("decode image", 0)}
    throughput = cells["openvino", "fp32", "throughput"]["rows"]
    both = {(stage, n) for stage in ("inference only", "end to end") for n in (1, 2)}
    assert {(r["stage"], r["people"]) for r in throughput} == both
    assert all(r["frames"] >= 4 for r in throughput)
    assert all(s > 0 for c in cells.values() for r in c["rows"] for one in r["seconds"] for s in one)
    assert all(c["peak_mb"] > 20 for c in cells.values())


def test_a_result_says_what_was_measured(result: dict[str, Any], narrow_bundle: Path):
    assert result["bundle"]["name"] == "narrow-coco-128x96" and result["bundle"]["path"] == str(narrow_bundle)
    assert result["settings"]["flip_test"] is False and result["machine"]["cpu"]["cores"] >= 1
    text = "\n".join(table(result))
    assert "no flip test" in text and "not measured on this backend" in text
    assert "energy: " in text and "governor: " in text and "GPU: " in text


def test_the_stages_do_the_work_of_a_call(narrow_bundle: Path, tmp_path: Path):
    import cv2

    from posert.runtime.bench.stages import latency

    frame, boxes = crowd(2)
    cv2.imwrite(str(tmp_path / "frame.png"), frame)
    pose = PoseEstimator(narrow_bundle, backend="openvino", precision="fp32", flip_test=True)
    stages = {(s.name, s.people): s.call for s in latency(pose, tmp_path / "frame.png", boxes, [2])}
    read = stages["decode", 2].args[0].__self__  # type: ignore[attr-defined] - people whose joints the stage reads
    stages["decode", 2]()
    np.testing.assert_array_equal(read.xy, pose(frame, boxes).xy)
    np.testing.assert_array_equal(stages["decode image", 0](), frame)


def test_inference_only_of_a_stream_does_the_same_runs(narrow_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    from posert.runtime.bench.stages import _inference_of_stream, _stream

    runs: list[int] = []
    frame, boxes = crowd(3)
    pose = PoseEstimator(narrow_bundle, backend="openvino", precision="fp32", throughput=True)
    request = type(pose.session.requests()[0])
    start = request.start

    def noting(self: Any, crops: Any) -> None:
        runs.append(len(crops))
        start(self, crops)

    monkeypatch.setattr(request, "start", noting)
    inference = _inference_of_stream(pose, frame, boxes, 5)
    runs.clear()
    inference()
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
    assert main(["bench", str(narrow_bundle), "--people", "1", "--rounds", "1", "--backend", "tensorrt"]) == 1


def test_all_precisions_are_those_that_the_bundle_holds(narrow_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple[str, str, str]] = []
    monkeypatch.setattr(sweep, "measure", lambda sides, cell, *_: asked.append(cell))
    sweep.sweep([Side(narrow_bundle)], Settings(), [("openvino", "all", ["latency"])], [None])
    with Bundle(narrow_bundle) as bundle:
        runs = load_backend("openvino").runnable()
        held = [precision for precision, artifact in runs.items() if artifact in bundle.artifacts]
    assert asked == [("openvino", precision, "latency") for precision in held] and len(held) < len(runs)


def test_a_worker_that_dies_says_how(narrow_bundle: Path):
    worker = Worker(Side(narrow_bundle), ("openvino", "fp32", "latency"), Settings((1,)))
    worker.open()
    worker._process.kill()
    with pytest.raises(ProcessError, match="was ended by SIGKILL"):
        worker.ask(do="time", part=0, burst=0)
    worker.close()
    broken = Side(narrow_bundle, python="/bin/false")
    worker = Worker(broken, ("openvino", "fp32", "latency"), Settings((1,)))
    with pytest.raises(ProcessError, match="ended with status 1"):
        worker.open()
    worker.close()


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
    """A result that takes `times` as long end to end, on a machine that is `drift` times as slow."""
    noise = np.exp(rng.normal(0, 0.03, (3, rounds)))
    seconds = {"end to end": 0.02 * times * drift * noise[0], "inference only": 0.019 * drift * noise[1]}
    rows = [
        {"stage": name, "people": 1, "frames": 1, "joules": [None] * rounds, "seconds": [[t] for t in times_.tolist()]}
        for name, times_ in seconds.items()
    ]
    cell = {
        **{"backend": "openvino", "precision": "int8", "mode": "latency", "rows": rows},
        "launches": [i // 2 for i in range(rounds)],
        "yardstick": [[t] for t in (0.01 * drift * noise[2]).tolist()],
    }
    return {
        **{"kind": "posert bench", "schema": 2, "session": session, "date": "2026-01-01", "cells": [cell]},
        "bundle": {"name": "net", "path": "net.pose"},
        "versions": {"posert": "1"},
        "machine": {"cpu": {"name": "one"}, "gpu": "none"},
        **{"python": "python", "interrupted": False},
    }


@pytest.mark.parametrize(("noise", "rounds"), [(0.01, 40), (0.2, 120)])
def test_a_noisy_machine_takes_more_rounds(
    noise: float, rounds: int, narrow_bundle: Path, monkeypatch: pytest.MonkeyPatch
):
    """Workers whose times are made up: the number of rounds follows from their noise and not from what they say."""
    rng = np.random.default_rng(1)

    def launch(sides: Any, cell: Any, settings: Any, records: list[dict[str, Any]], stack: Any) -> Any:
        for record in records:
            record.setdefault("rows", [{"stage": "end to end", "people": 1, "frames": 1, "seconds": [], "joules": []}])
            record.setdefault("launches", [])
        return list(zip("ab", records, strict=False))

    def rounds_of(workers: list[Any], rounds: int, launch: int, meters: Any) -> None:
        for side, record in workers:
            times = 0.02 * (1.3 if side == "b" else 1) * np.exp(rng.normal(0, noise, rounds))
            record["rows"][0]["seconds"] += [[t] for t in times.tolist()]
            record["launches"] += [launch] * rounds

    monkeypatch.setattr(measure, "_launch", launch)
    monkeypatch.setattr(measure, "_rounds", rounds_of)
    sides, settings = [Side(narrow_bundle)] * 2, Settings((1,), rounds=40)
    meters = measure.Meters()
    a, b, alone = records = [{}, {}, {}]
    measure.measure(sides, ("openvino", "fp32", "latency"), settings, meters, records[:2])
    assert len(a["rows"][0]["seconds"]) == len(b["launches"]) == rounds
    assert len(set(a["launches"])) == rounds // 2
    measure.measure(sides[:1], ("openvino", "fp32", "latency"), settings, meters, [alone])
    assert len(alone["launches"]) == 40


def test_what_can_never_be_precise_takes_no_more_rounds():
    row = {"stage": "end to end", "seconds": [[1.0], [2.0], [1.0], [3.0], [1.0], [9.0]]}
    record = {"rows": [row], "launches": [0, 0, 1, 1, 2, 2]}
    assert measure.precise_enough([record, record])  # of three launches
    assert measure.precise_enough([{"error": "no such backend"}, record])
    assert measure.precise_enough([{"error": "gone"}] * 2)


@pytest.mark.parametrize("session", ["same", "other"])
def test_verdicts(session: str):
    rng = np.random.default_rng(0)
    a = made_up(rng, 1.0, "same")
    assert summary(compare(a, made_up(rng, 1.0, session))) == "no difference"
    assert summary(compare(a, made_up(rng, 1.1, session))) == "1 of 1 slower"
    assert summary(compare(a, made_up(rng, 0.8, session))) == "1 of 1 faster"


def test_what_was_not_measured_says_why():
    a = made_up(np.random.default_rng(0), 1.0, "s")
    b = a | {"cells": [{"backend": "openvino", "precision": "int8", "mode": "latency", "error": "its process ended"}]}
    with pytest.raises(InputError, match="share no row that was measured in both: its process ended"):
        compare(a, b)


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
    assert main(["bench", "--compare", str(a), str(a)]) == 0
    capsys.readouterr()
    assert main(["bench", "--compare", str(a), str(b), "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["summary"] == "1 of 1 slower" and answer["rows"][0]["ratio"]["verdict"] == "slower"


def test_the_first_bundle_is_the_new_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """`posert bench NEW --against OLD` fails where NEW is the slower one, and only there."""
    rng = np.random.default_rng(0)
    for times, status, text in ((1.2, 1, "1 of 1 slower"), (0.8, 0, "1 of 1 faster")):
        results = [made_up(rng, times, "s"), made_up(rng, 1.0, "s")]
        monkeypatch.setattr("posert.runtime.bench.sweep.sweep", lambda sides, *_, results=results: results)
        assert main(["bench", "new.pose", "--against", "old.pose", "--backend", "openvino"]) == status
        assert text in capsys.readouterr().out


def test_results_of_older_versions_are_read(tmp_path: Path):
    new = made_up(np.random.default_rng(0), 1.2, "s")
    old = made_up(np.random.default_rng(0), 1.0, "s") | {"schema": 1}
    for row, name in zip(old["cells"][0]["rows"], ("whole", "bare engine"), strict=True):
        row["part"] = name
        del row["stage"]
    path = tmp_path / "old.json"
    path.write_text(json.dumps(old))
    (verdict,) = compare(load(path), new)
    assert verdict.ratio.point == pytest.approx(1.2) and verdict.inference is not None


OLD_WORKER = """
import json, sys
assert "--image" in sys.argv and "--boxes" in sys.argv
names = "decode image", "crop", "bare engine", "decode", "whole"
print(json.dumps({"parts": [{"part": name, "people": 1, "frames": 1} for name in names]}), flush=True)
for line in sys.stdin:
    print(json.dumps({"seconds": [json.loads(line)["part"]]}), flush=True)
"""


def test_an_older_install_is_measured(tmp_path: Path, narrow_bundle: Path):
    """0.1.0-dev has its worker in posert.benchmarks.harness, and other names of stages."""
    harness = tmp_path / "posert" / "benchmarks" / "harness"
    harness.mkdir(parents=True)
    for folder in (harness, harness.parent, harness.parent.parent):
        (folder / "__init__.py").touch()
    (harness / "worker.py").write_text(OLD_WORKER)
    python = tmp_path / "python"
    # -S: without site-packages, where this posert may be installed
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} -S "$@"\n')
    python.chmod(0o755)

    def start() -> Worker:
        return Worker(Side(narrow_bundle, str(python)), ("openvino", "fp32", "latency"), Settings((1,)))

    with closing(start()) as worker:
        worker.open()
        index, _ = worker.stages["end to end", 1]
        assert worker.ask(do="time", part=index, burst=0) == {"seconds": [4]}
        assert ("inference only", 1) in worker.stages
    (harness / "worker.py").unlink()
    with closing(start()) as worker, pytest.raises(ProcessError, match="one without `posert bench`"):
        worker.open()


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"kind": "posert bench", "schema": 99}'])
def test_files_that_are_no_result(tmp_path: Path, content: str):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(InputError, match="posert bench"):
        load(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.pose", "--people", "1,0"], "expected a whole number of 1 or more, got '0'"),
        (["x.pose", "--people", "many"], "expected a whole number of 1 or more, got 'many'"),
        (["x.pose", "--backend", "openvivo"], "Did you mean openvino"),
        (["x.pose", "--mode", "fast"], "unknown mode"),
        (["x.pose", "--cpus", "99999"], "which this process may use"),
        (["x.pose", "y.pose"], "unrecognized arguments: y.pose"),
        ([], "give either a bundle, or two results"),
        (["x.pose", "--compare", "a.json", "b.json"], "give either a bundle, or two results"),
        (["x.pose", "--against", "y.pose", "--rounds", "11"], "a comparison needs 12 or more"),
        (["compare", "a.json", "b.json"], "compare is now --compare"),
        (["--compare", "a.json"], "expected 2 arguments"),
        (["x.pose", "--against-python", "/no/such/python"], "no such program"),
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
        with pytest.raises(argparse.ArgumentTypeError):
            processors(wrong)


def test_settings_come_from_the_options():
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    args = parser.parse_args(["x.pose", "--people", "3", "--threads", "2", "--flip-test"])
    assert bench.settings(args) == Settings((3,), 20, 2, None, True)
    assert bench.settings(parser.parse_args(["x.pose", "--against", "y.pose"])).rounds == 40
