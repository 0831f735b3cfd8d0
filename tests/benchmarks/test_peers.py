"""Tools of known speed and known joints in turn, tools that fail in every way, and runs that were stopped."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from posert.benchmarks import peers
from posert.benchmarks.child import ToolError, find
from posert.benchmarks.peer_tools import run
from posert.benchmarks.peer_tools.adapter import UnavailableError
from posert.benchmarks.peer_tools.inputs import PEOPLE, write_sdk_folder
from posert.benchmarks.peer_tools.plain import pipeline
from posert.benchmarks.peer_tools.run import PeerTool, agreement, run_tools
from posert.benchmarks.peers import journal_of, peer_tools
from posert.export.graph.reference import Reference
from posert.runtime.bench.scene import crowd
from posert.runtime.datasets import dataset
from posert.runtime.estimator import PoseEstimator
from posert.runtime.pose.keypoints import Keypoints
from posert.runtime.selection import Selection
from posert.runtime.system.journal import Journal

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
    """Takes the place of a bundle: inputs are made without a network, and the adapter is the module `sham`."""

    def prepare(bundle: Path, weights: str | None, folder: Path, people: int) -> tuple[dict[str, Any], Keypoints]:
        frame, boxes = crowd(max(people, PEOPLE))
        np.save(folder / "frame.npy", frame)
        np.save(folder / "boxes.npy", boxes)
        np.savez(folder / "joints.npz", xy=reference.xy, score=reference.score)
        return {"folder": str(folder), "sigmas": dataset("coco").sigmas}, reference

    monkeypatch.setattr(run, "prepare", prepare)
    monkeypatch.setattr(run, "BURST", 0.0)
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "sham.py").write_text(SHAM)
    monkeypatch.setenv("PYTHONPATH", str(modules))
    path = tmp_path / "some.pose"
    path.write_bytes(b"some")
    return path


SHAM = '''
"""An adapter whose speed and joints are known."""
import os, time
import numpy as np
from pathlib import Path
from posert.benchmarks.peer_tools.adapter import Adapter, UnavailableError

def open_adapter(inputs):
    if inputs.get("unavailable"):
        raise UnavailableError(inputs["unavailable"])
    if inputs.get("import"):
        import no_such_library
    if inputs.get("raises"):
        raise RuntimeError("the graph was refused")
    known = np.load(Path(inputs["folder"], "joints.npz"))
    calls, clock = 0, 0.0
    time.perf_counter = lambda: clock  # known speeds, whatever the machine does

    def call(frame, boxes):
        nonlocal calls, clock
        calls += 1
        if calls > inputs.get("lives", 1e9):
            os.abort()
        print("libraries write to standard output")
        clock += inputs.get("seconds", 0.001) * len(boxes) * inputs.get("frames", 1)
        n = len(boxes)
        return known["xy"][:n] + [inputs.get("off", 0.0), 0], known["score"][:n]

    description = {"tool": "sham", "threads": os.environ.get("OMP_NUM_THREADS", "default")}
    return Adapter(call, description, inputs.get("frames", 1))
'''


def sham(name: str, **options: Any) -> PeerTool:
    return PeerTool(name, "sham:open_adapter", options)


def timed(bundle: Path, output: Path, tools: Sequence[PeerTool], people: Sequence[int], rounds: int) -> Journal:
    journal = journal_of(bundle, output, tools)
    run_tools(bundle, journal, tools, people, rounds)
    return journal


def test_known_speeds_come_out(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # tools choose for themselves
    output = tmp_path / "out" / "peers.jsonl"
    three = [
        sham("posert int8", seconds=0.01),
        sham("twice <1>", seconds=0.02, off=3.0),
        sham("video", seconds=0.01, frames=4),
    ]
    records = timed(bundle, output, three, [1, 2], 6).records
    assert journal_of(bundle, output, three).records == records
    for people in (1, 2):
        rows = peers.summary(records, people)
        for name, expected in (("posert int8", 10), ("twice <1>", 20), ("video", 10)):
            assert rows[name]["ms_per_person"] == pytest.approx(expected) and rows[name]["rounds"] == 6
            assert rows[name]["p95_ms_per_person"] == pytest.approx(expected)
        assert rows["twice <1>"]["ratios"]["posert int8"] == pytest.approx([2, 2, 2])
        assert "posert int8" not in rows["posert int8"]["ratios"]
    seen = {r["tool"]: r["agreement"] for r in records if "tool" in r}
    assert seen["twice <1>"]["px"] == pytest.approx({"p50": 3, "p95": 3, "max": 3}, abs=1e-4)
    assert seen["posert int8"]["px"]["max"] == 0 and seen["posert int8"]["oks"] == 1
    assert all(mb > 10 for mb in records[-1]["peak_mb"].values())
    text = peers.table("some.pose", records, [1, 2])
    assert text.count("2.00 (2.00-2.00)") == 2 and "video: tool sham; threads default" in text


def test_who_cannot_run_is_a_row(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pip = "tool cannot be installed: pip install tool==1\nERROR: No matching distribution found for tool==1"
    uninstallable = sham("not installable")

    def python(tool: PeerTool) -> Path:
        if tool is uninstallable:
            raise ToolError(pip)
        return Path(sys.executable)

    monkeypatch.setattr(PeerTool, "python", python)
    tools = [
        sham("posert int8"),
        sham("unavailable", unavailable="this CPU does not compute in bf16"),
        sham("no library", **{"import": True}),
        sham("refused", raises=True),
        sham("died", lives=6),
        uninstallable,
        sham("peer"),
    ]
    records = timed(bundle, tmp_path / "peers.jsonl", tools, [1], 6).records
    missing = {r["tool"]: r["missing"] for r in records if "missing" in r}
    assert missing["unavailable"] == "this CPU does not compute in bf16"
    assert "no_such_library" in missing["no library"] and "the graph was refused" in missing["refused"]
    assert "SIGABRT" in missing["died"] and "No matching distribution" in missing["not installable"]
    rows = peers.summary(records, 1)
    assert 0 < rows["died"]["rounds"] < 6 and not rows["died"]["ratios"] and rows["peer"]["rounds"] == 6
    text = peers.table("some.pose", records, [1])
    assert "unavailable: missing: this CPU does not compute in bf16" in text
    assert "not installable: missing: ERROR: No matching distribution found for tool==1" in text


def test_a_stopped_run_resumes(bundle: Path, tmp_path: Path):
    output, two = tmp_path / "peers.jsonl", [sham("posert int8"), sham("peer")]

    def stop(text: str) -> None:
        if text.startswith("round 4"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tools(bundle, journal_of(bundle, output, two), two, [1], 6, log=stop)
    first = [r for r in journal_of(bundle, output, two).records if "people" in r]
    assert len(first) == 3
    rounds = [r for r in timed(bundle, output, two, [1], 6).records if "people" in r]
    assert len(rounds) == 6 and rounds[:3] == first
    run_tools(bundle, journal_of(bundle, output, two), two, [1], 6, log=pytest.fail)  # there is nothing left to do
    assert journal_of(bundle, output, two[:1]).records == []  # others took part


def test_the_hand_written_pipeline_finds_what_the_reference_finds(
    narrow_reference: Reference, narrow_onnx: onnx.ModelProto
):
    c = narrow_reference.contract
    inputs = {name: getattr(c, name) for name in ("width", "height", "model_color", "padding", "udp", "decode")}
    inputs |= {"mean": [255 * m for m in c.mean], "std": [255 * s for s in c.std]}
    session = ort.InferenceSession(narrow_onnx.SerializeToString(), providers=["CPUExecutionProvider"])
    frame, boxes = crowd(6)
    xy, score = pipeline(inputs, lambda images: session.run(None, {"images": images})[0])(frame, boxes)
    pose = PoseEstimator.from_session(c, narrow_reference, Selection("pytorch", "fp32", "the reference"))
    expected = pose(frame, boxes)
    # Joints are looked for only where a map is positive somewhere, which those of random weights need not be.
    some = expected.score > 0
    assert some.sum() > 20
    np.testing.assert_allclose(score, expected.score, atol=1e-4)
    np.testing.assert_allclose(xy[some], expected.xy[some], atol=1e-2)
    with pytest.raises(UnavailableError, match="needs unbiased"):
        pipeline(inputs | {"decode": "unbiased"}, lambda images: images)


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


def test_the_sdk_folder(tmp_path: Path, narrow_reference: Reference, narrow_onnx: onnx.ModelProto):
    write_sdk_folder(narrow_onnx, narrow_reference.contract, tmp_path / "sdk", 16)
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
    assert (tmp_path / "sdk" / model["net"]).exists() and model["batch_size"] == 16
    assert model["name"] in [t["name"] for t in tasks]


def test_every_tool_has_its_adapter_and_pins():
    tools = peer_tools()
    assert len({t.name for t in tools}) == len(tools)
    for tool in tools:
        assert callable(find(tool.adapter))
        assert all("==" in requirement for requirement in (*(tool.requirements or ()), *tool.bare))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "nobody"], "matches none of posert int8"),
        (["--rounds", "0"], "expected 1 or more"),
        (["--output", tempfile.gettempdir()], "cannot write"),
        ([], "no.pose"),
    ],
)
def test_mistakes_are_told(arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    line = [str(tmp_path / "no.pose"), "--output", str(tmp_path / "peers.jsonl"), *arguments]
    assert peers.main(line) == 2
    assert message in capsys.readouterr().err
