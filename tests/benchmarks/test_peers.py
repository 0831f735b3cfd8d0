"""The contest: contenders of known speed and known joints, ones that fail in every way, and runs that were stopped."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from posert.benchmarks import peers
from posert.benchmarks.contenders import contest, page, process
from posert.benchmarks.contenders.handwritten import pipeline
from posert.benchmarks.contenders.materials import PEOPLE, agreement, sdk
from posert.benchmarks.contenders.process import Gone, Process
from posert.benchmarks.contenders.roster import Contender, contenders
from posert.benchmarks.contenders.worker import Absent
from posert.benchmarks.harness.environments import ToolError
from posert.export.graph.reference import Reference
from posert.runtime.bench.scene import crowd
from posert.runtime.datasets import dataset
from posert.runtime.estimator import PoseEstimator
from posert.runtime.pose.keypoints import Keypoints
from posert.runtime.selection import Selection

JOINTS = 17


@pytest.fixture(scope="module")
def reference() -> Keypoints:
    rng = np.random.default_rng(0)
    _, boxes = crowd(PEOPLE)
    xy = rng.uniform(0, 500, (PEOPLE, JOINTS, 2)).astype(np.float32)
    score = rng.uniform(0.2, 1, (PEOPLE, JOINTS)).astype(np.float32)
    return Keypoints(xy, score, boxes.astype(np.float32), dataset("coco").keypoints)


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: Keypoints) -> Path:
    """Stands for a bundle: the materials are made without a network, and contenders come from the module `sham`."""

    def prepare(bundle: Path, weights: str | None, folder: Path, people: int) -> tuple[dict[str, Any], Keypoints]:
        frame, boxes = crowd(max(people, PEOPLE))
        np.save(folder / "frame.npy", frame)
        np.save(folder / "boxes.npy", boxes)
        np.savez(folder / "joints.npz", xy=reference.xy, score=reference.score)
        return {"folder": str(folder), "sigmas": dataset("coco").sigmas}, reference

    monkeypatch.setattr(contest, "prepare", prepare)
    monkeypatch.setattr(contest, "BURST", 0.0)
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "sham.py").write_text(SHAM)
    monkeypatch.setenv("PYTHONPATH", str(modules))
    path = tmp_path / "some.pose"
    path.write_bytes(b"some")
    return path


SHAM = '''
"""A contender for the tests of the contest."""
import os, time
import numpy as np
from pathlib import Path
from posert.benchmarks.contenders.worker import Absent, Opened

def open(given):
    if given.get("absent"):
        raise Absent(given["absent"])
    if given.get("import"):
        import no_such_library
    if given.get("raises"):
        raise RuntimeError("the graph was refused")
    known = np.load(Path(given["folder"], "joints.npz"))
    calls, clock = 0, 0.0
    time.perf_counter = lambda: clock  # known speeds, whatever the machine does

    def call(frame, boxes):
        nonlocal calls, clock
        calls += 1
        if calls > given.get("lives", 1e9):
            os.abort()
        print("libraries write to standard output")
        clock += given.get("seconds", 0.001) * len(boxes) * given.get("frames", 1)
        time.sleep(given.get("sleeps", 0))
        n = len(boxes)
        return known["xy"][:n] + [given.get("off", 0.0), 0], known["score"][:n]

    return Opened(call, {"tool": "sham", "threads": 1}, given.get("frames", 1))
'''


def sham(name: str, **options: Any) -> Contender:
    return Contender(name, "sham", options)


def test_known_speeds_come_out(bundle: Path, tmp_path: Path):
    output = tmp_path / "out" / "peers.json"
    three = [
        sham("posert int8", seconds=0.01),
        sham("twice", seconds=0.02, off=3.0),
        sham("video", seconds=0.01, frames=4),
    ]
    result = contest.compete(bundle, output, three, [1, 2], 6)
    stored = json.loads(output.read_text())
    assert stored["complete"] and stored["rounds"] == result["rounds"]
    for people in ("1", "2"):
        rows = stored["summary"][people]
        for name, expected in (("posert int8", 10), ("twice", 20), ("video", 10)):
            assert rows[name]["ms_per_person"] == pytest.approx(expected) and rows[name]["rounds"] == 6
            assert rows[name]["p95_ms_per_person"] == pytest.approx(expected)
        assert rows["twice"]["times_ours"]["posert int8"] == pytest.approx([2, 2, 2])
        assert "posert int8" not in rows["posert int8"]["times_ours"]
    seen = stored["rows"]
    assert seen["twice"]["agreement"]["px"] == pytest.approx({"p50": 3, "p95": 3, "max": 3}, abs=1e-4)
    assert seen["posert int8"]["agreement"]["px"]["max"] == 0 and seen["posert int8"]["agreement"]["oks"] == 1
    assert seen["twice"]["peak_mb"] > 10


def test_who_cannot_take_part_is_a_row(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    output = tmp_path / "peers.json"
    pip = "tool cannot be installed: pip install tool==1\nERROR: No matching distribution found for tool==1"
    uninstallable = sham("not installable")
    monkeypatch.setattr(
        Contender, "python", lambda c: _raise(ToolError(pip)) if c is uninstallable else Path(sys.executable)
    )
    them = [
        sham("posert int8"),
        sham("absent", absent="this CPU does not compute in bf16"),
        sham("no library", **{"import": True}),
        sham("refused", raises=True),
        sham("died", lives=6),
        uninstallable,
        sham("peer"),
    ]
    result = contest.compete(bundle, output, them, [1], 6)
    rows = result["rows"]
    assert rows["absent"]["missing"] == "this CPU does not compute in bf16"
    assert "no_such_library" in rows["no library"]["missing"]
    assert "the graph was refused" in rows["refused"]["missing"]
    assert "SIGABRT" in rows["died"]["missing"] and 0 < result["summary"]["1"]["died"]["rounds"] < 6
    assert "times_ours" in result["summary"]["1"]["died"] and not result["summary"]["1"]["died"]["times_ours"]
    assert "No matching distribution" in rows["not installable"]["missing"]
    assert result["summary"]["1"]["peer"]["rounds"] == 6
    text = page.table(result)
    assert "absent: missing: this CPU does not compute in bf16" in text
    assert "not installable: missing: ERROR: No matching distribution found for tool==1" in text


def _raise(error: Exception) -> Any:
    raise error


def test_a_stopped_contest_goes_on(bundle: Path, tmp_path: Path):
    output, two = tmp_path / "peers.json", [sham("posert int8"), sham("peer")]

    def stop(text: str) -> None:
        if text.startswith("round 4"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        contest.compete(bundle, output, two, [1], 6, tell=stop)
    kept = json.loads(output.read_text())
    assert not kept["complete"] and len(kept["rounds"]["1"]) == 3
    result = contest.compete(bundle, output, two, [1], 6)
    assert result["complete"] and len(result["rounds"]["1"]) == 6
    assert result["rounds"]["1"][:3] == kept["rounds"]["1"]
    # Of other numbers of people, and of a contest that is finished, nothing is taken over.
    for people in ([2], [2]):
        again = contest.compete(bundle, output, two, people, 1)
        assert [len(again["rounds"][key]) for key in again["rounds"]] == [1]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_who_waits_takes_no_time(bundle: Path, tmp_path: Path, reference: Keypoints):
    contest.prepare(bundle, None, tmp_path, 1)
    waiting = Process(Path(sys.executable), "sham", {"folder": str(tmp_path)}, tmp_path / "w")
    try:
        pid = waiting._process.pid

        def state() -> str:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]

        for _ in range(2):
            deadline = time.monotonic() + 5
            while state() != "T" and time.monotonic() < deadline:
                time.sleep(0.01)
            assert state() == "T"
            assert len(waiting.ask(do="time", people=1, burst=0)["seconds"]) == 1
    finally:
        assert (waiting.close() or 0) > 10


def test_silence_is_given_up(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    contest.prepare(bundle, None, tmp_path, 1)
    given = {"folder": str(tmp_path), "sleeps": 60}
    slow = Process(Path(sys.executable), "sham", given, tmp_path / "slow")
    monkeypatch.setattr(process, "_PATIENCE", 0.2)
    monkeypatch.setattr(process, "_GRACE", 0.2)
    with pytest.raises(Gone, match="no answer within"):
        slow.ask(do="time", people=1, burst=0)
    assert slow.close() is None and slow._process.returncode is not None


def test_the_pipeline_by_hand_finds_what_the_reference_finds(narrow_reference: Reference, narrow_onnx: onnx.ModelProto):
    c = narrow_reference.contract
    given = {
        "width": c.width,
        "height": c.height,
        "mean": [255 * m for m in c.mean],
        "std": [255 * s for s in c.std],
        "model_color": c.model_color,
        "padding": c.padding,
        "udp": c.udp,
        "decode": c.decode,
    }
    session = ort.InferenceSession(narrow_onnx.SerializeToString(), providers=["CPUExecutionProvider"])
    frame, boxes = crowd(6)
    xy, score = pipeline(given, lambda images: session.run(None, {"images": images})[0])(frame, boxes)
    pose = PoseEstimator.from_session(c, narrow_reference, Selection("pytorch", "fp32", "the reference"))
    expected = pose(frame, boxes)
    # Joints are looked for only where a map is positive somewhere, which those of random weights need not be.
    some = expected.score > 0
    assert some.sum() > 20
    np.testing.assert_allclose(score, expected.score, atol=1e-4)
    np.testing.assert_allclose(xy[some], expected.xy[some], atol=1e-2)
    with pytest.raises(Absent, match="wants unbiased"):
        pipeline(given | {"decode": "unbiased"}, lambda images: images)


def test_agreement_counts_joints_that_the_reference_sees(reference: Keypoints):
    sigmas = np.array(dataset("coco").sigmas)
    hidden = reference.score <= 0.3
    assert hidden.any()
    xy = reference.xy + np.where(hidden, 1000, 0)[..., None]
    seen = agreement(reference, sigmas, xy, reference.score)
    assert seen["px"]["max"] == 0 and seen["oks"] == 1 and seen["joints"] == (~hidden).sum()
    xy[0, :, 0] += 5
    area = np.prod(reference.boxes[0, 2:] - reference.boxes[0, :2])
    person = np.exp(-25 / (2 * area * (2 * sigmas) ** 2))[~hidden[0]].mean()
    seen = agreement(reference, sigmas, xy, reference.score)
    assert seen["oks"] == pytest.approx((person + PEOPLE - 1) / PEOPLE, abs=1e-6)
    with pytest.raises(Exception, match="expected"):
        agreement(reference, sigmas, xy[:3], reference.score[:3])


def test_the_sdk_directory(tmp_path: Path, narrow_reference: Reference, narrow_onnx: onnx.ModelProto):
    sdk(narrow_onnx, narrow_reference.contract, tmp_path / "sdk", 16)
    graph = onnx.load(tmp_path / "sdk" / "end2end.onnx")
    onnx.checker.check_model(graph)
    assert [v.name for v in (*graph.graph.input, *graph.graph.output)] == ["input", "output"]
    tasks = json.loads((tmp_path / "sdk" / "pipeline.json").read_text())["pipeline"]["tasks"]
    normalise = next(t for t in tasks[0]["transforms"] if t["type"] == "Normalize")
    assert normalise["mean"] == pytest.approx([123.675, 116.28, 103.53]) and normalise["to_rgb"]
    # Each task takes what an earlier one gives.
    known = {"img"}
    for task in tasks:
        assert set(task["input"]) <= known
        known |= set(task["output"])
    model = json.loads((tmp_path / "sdk" / "deploy.json").read_text())["models"][0]
    assert (
        (tmp_path / "sdk" / model["net"]).exists()
        and model["name"] in [t["name"] for t in tasks]
        and model["batch_size"] == 16
    )


def test_every_row_has_its_file():
    folder = Path(contest.__file__).parent
    them = contenders()
    assert len({c.name for c in them}) == len(them)
    for c in them:
        assert (folder / f"{c.module[1:]}.py").exists()
        assert all("==" in requirement for requirement in (*(c.requirements or ()), *c.bare))


def test_the_plot_is_a_drawing_on_its_own(bundle: Path, tmp_path: Path):
    import xml.etree.ElementTree as ElementTree

    result = contest.compete(bundle, tmp_path / "p.json", [sham("posert int8"), sham("peer <1>")], [1], 6)
    drawing = page.plot(result, "1")
    assert ElementTree.fromstring(drawing).tag == "{http://www.w3.org/2000/svg}svg"
    assert "peer &lt;1&gt;" in drawing and "posert int8" in page.table(result)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "nobody"], "fits none of posert int8"),
        (["--rounds", "0"], "expected 1 or more"),
        (["--output", tempfile.gettempdir()], "cannot write"),
    ],
)
def test_mistakes_are_told(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    line = ["peers", str(tmp_path / "no.pose"), "--output", str(tmp_path / "peers.json"), *arguments]
    monkeypatch.setattr(sys, "argv", line)
    assert peers.main() == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "0", "1,-2", "many"])
def test_numbers_of_people(text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "argv", ["peers", "no.pose", "--output", "peers.json", f"--people={text}"])
    with pytest.raises(SystemExit) as stopped:
        peers.main()
    assert stopped.value.code == 2 and "expected numbers of people such as 1,8" in capsys.readouterr().err


def test_a_bundle_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["peers", str(tmp_path / "no.pose"), "--output", str(tmp_path / "peers.json")])
    assert peers.main() == 2
    assert "no.pose" in capsys.readouterr().err
