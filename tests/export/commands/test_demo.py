"""`posert demo`: what it makes, what it takes that is there, and what its page shows."""

from __future__ import annotations

import json
import re
import shutil
import webbrowser
from pathlib import Path
from typing import Any

import pytest

from posert.export.commands import demo
from posert.runtime import Bundle
from posert.runtime.cli.main import main

_BUILD = ("--arch", "pose_resnet_demo", "--weights", "demo", "--limit", "1", "--engine", "none")


@pytest.fixture
def folder(demo_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An output folder with bundle and detector; the video to generate is short."""
    shutil.copy(demo_files / "demo.pose", tmp_path / "hrnet_demo.pose")
    shutil.copy(demo_files / "detector.onnx", tmp_path / "demo_detector.onnx")
    monkeypatch.setattr(demo, "_FRAMES", 10)
    monkeypatch.setattr(demo, "_BUILD", _BUILD)
    return tmp_path


def run(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert main(["demo", "--output", str(folder), "--json", *options]) == 0
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    return said


def test_page_and_keypoints(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    said = run(folder, capsys, "--no-open")
    assert (said["frames"], said["failed"], said["opened"]) == (10, [], False) and said["people"] > 10
    assert {Path(path).name for path in said["outputs"]} == {"people.mp4", "people.json"}
    frames = json.loads((folder / "people.json").read_text())["frames"]
    assert len(frames) == 10 and all(person["id"] is not None for frame in frames for person in frame["people"])
    page = (folder / "demo.html").read_text()
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    shown = ["Before and after", "Keypoints", "Frames", "People", "Joint scores", "Speed", "Figures"]
    assert headings == [*shown, "Accuracy of every graph", "What was run"]
    before, after = re.findall(r'<figure><img src="(data:image/jpeg.*?)"', page)[:2]
    assert before != after
    with Bundle(folder / "hrnet_demo.pose") as bundle:
        assert f"<b>{bundle.accuracy['verdict']}</b><span>accuracy gate" in page
        for row in bundle.accuracy["rows"]:
            assert f"<th>{row['backend']} {row['precision']}</th><td>{row['verdict']}</td>" in page
    # The coordinates of the table are those of the results.
    number = int(re.search(r"px of frame (\d+)", page)[1])  # type: ignore[index]
    x, y = re.search(r"<th>left wrist</th><td>(.*?)</td><td>(.*?)</td>", page).groups()  # type: ignore[union-attr]
    wrist = frames[number]["people"][0]["keypoints"][9]
    assert (float(x), float(y)) == pytest.approx(wrist[:2], abs=0.06)  # one digit

    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    made = {path: path.stat().st_mtime_ns for path in folder.rglob("*.pose")} | {
        path: path.stat().st_mtime_ns for path in folder.rglob("clips/**/*.mp4")
    }
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not run(folder, capsys)["opened"] and not opened
    monkeypatch.setenv("DISPLAY", ":0")
    assert run(folder, capsys)["opened"] and opened == [(folder / "demo.html").resolve().as_uri()]
    assert len(made) == 2 and all(path.stat().st_mtime_ns == time for path, time in made.items())


@pytest.mark.slow
def test_what_is_missing_or_damaged_is_made(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "hrnet_demo.pose").write_bytes((folder / "hrnet_demo.pose").read_bytes()[:-900])
    (folder / "demo_detector.onnx").unlink()
    assert main(["demo", "--output", str(folder), "--no-open"]) == 0
    captured = capsys.readouterr()
    assert "cut short" in captured.err and "posert build --arch" in captured.err
    assert "accuracy gate:" in captured.out and (folder / "demo.html").exists()
    with Bundle(folder / "hrnet_demo.pose") as bundle:
        bundle.check()


def test_a_bundle_of_something_else_stays(
    narrow_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(narrow_bundle, tmp_path / "hrnet_demo.pose")
    assert main(["demo", "--output", str(tmp_path), "--no-open"]) == 2
    assert "not the demo's bundle" in capsys.readouterr().err
    assert (tmp_path / "hrnet_demo.pose").read_bytes() == narrow_bundle.read_bytes()
