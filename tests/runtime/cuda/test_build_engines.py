"""`posert build` where there is TensorRT and a GPU: engines, their rows in the gate, and the faster one.

Both are stand-ins; tests/export/builder/test_engines.py builds real engines with TensorRT-RTX.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from posert.export import given_images
from posert.export.demo.frames import demo_frames
from posert.runtime.bundle.archive import Bundle
from posert.runtime.cli.main import main
from posert.runtime.engines import builder, engine_file
from posert.runtime.estimator import PoseEstimator
from posert.runtime.system import files

DEMO = ["build", "--arch", "hrnet_demo", "--weights", "demo", "--limit", "3", "--max-drop", "0.9", "--json"]
SMALL = ["build", "--arch", "pose_resnet_demo", "--weights", "demo", "--limit", "3", "--max-drop", "0.9", "--json"]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(files.CACHE, str(tmp_path / "cache"))
    monkeypatch.setattr(given_images, "_CALIBRATION_IMAGES", 12)
    return tmp_path / "cache"


@pytest.mark.slow  # the stand-in GPU draws every crop on the CPU, one pixel after the other
def test_from_a_checkpoint_to_engines_that_ran(
    fake_tensorrt: Any, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "made" / "net.pose"
    assert main([*DEMO, "--precision", "fp16,int8", "--output", str(output)]) == 0
    told = json.loads(capsys.readouterr().out)
    names = {p: f"net.tensorrt.sm86.{p}.engine" for p in ("fp16", "int8")}
    assert [Path(one["file"]).name for one in told["engines"]] == list(names.values())
    assert {p.name for p in output.parent.glob("*.engine*")} == {
        n + end for n in names.values() for end in ("", ".json")
    }
    with Bundle(output) as bundle:
        rows = {(r["backend"], r["precision"]): r for r in bundle.accuracy["rows"]}
        for precision, graph in (("fp16", "fp16"), ("int8", "int8_gpu")):
            # the stand-in's plan is the graph: the file holds exactly what the builder gave
            assert (output.parent / names[precision]).read_bytes() == bundle.read(bundle.artifacts[graph])
            assert rows["tensorrt", precision]["verdict"] == "passed"
        timed = bundle.accuracy["timed"]
    assert timed["device"] == "Fake GPU" and set(timed["ms"]) == {"fp16", "int8"}
    assert timed["fastest"] == min(timed["ms"], key=timed["ms"].__getitem__)
    with engine_file.EngineFile(output.parent / names["int8"]) as engine:
        assert engine.accuracy["timed"] == timed and engine.verdict == "passed"
        assert [r["backend"] for r in engine.accuracy["rows"]] == ["tensorrt"]
        assert engine.metadata.computing["CONVOLUTION HALF of INT8"] == 44  # every one that hrnet_demo has
    frames = demo_frames(17, "val", 1, "")
    image = cv2.imdecode(np.frombuffer(frames.read(frames.coco["images"][0]["file_name"]), np.uint8), cv2.IMREAD_COLOR)
    box = frames.coco["annotations"][0]["bbox"]
    boxes = [[box[0], box[1], box[0] + box[2], box[1] + box[3]]]
    # the bundle starts with what was built, and with the faster one, without building or timing again
    pose = PoseEstimator(output)
    assert (pose.selection.backend, pose.selection.precision) == ("tensorrt", timed["fastest"])
    alone = PoseEstimator(output.parent / names[timed["fastest"]])
    np.testing.assert_array_equal(pose(image, boxes).xy, alone(image, boxes).xy)


def test_an_engine_that_cannot_be_built_or_is_left_out(
    fake_tensorrt: Any, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundle is there all the same; who asked for the engine by name sees it in the exit status."""
    monkeypatch.setattr(builder, "audit", lambda network: {"CONVOLUTION FLOAT": 3})
    output = tmp_path / "net.pose"
    for more, status, left_out in (
        ([], 0, False),
        (["--engine", "tensorrt"], 2, False),
        (["--engine", "none"], 0, True),
    ):
        assert main([*SMALL, "--output", str(output), *more]) == status
        engines = json.loads(capsys.readouterr().out)["engines"]
        assert len(engines) == (0 if left_out else 1)
        for one in engines:
            assert "convolutions and matrix products" in one["reason"] and one["file"] is None
        assert output.exists() and not list(tmp_path.glob("*.engine"))
