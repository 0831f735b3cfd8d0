"""The benchmark of long videos, on a short one: what it reads and shows."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest

from posert.benchmarks import endurance
from posert.export.demo import detector

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_a_process_is_read() -> None:
    gc.collect()  # files of tests before this one
    before = endurance._reading(os.getpid())
    held = bytearray(b"x") * 50_000_000
    with Path(os.devnull).open():
        after = endurance._reading(os.getpid())
    assert before is not None and after is not None and len(held)
    assert after[0] - before[0] > 40 and after[2] == before[2] + 1 and after[1] >= 1
    child = subprocess.Popen([sys.executable, "-c", ""])
    time.sleep(0.01)
    child.wait()
    assert endurance._reading(child.pid) is None


def test_parts() -> None:
    parts = endurance._parts([(100.0 + i, 4, 9) for i in range(30)])
    assert [part["memory_mb"] for part in parts] == [101.0 + 3 * i for i in range(10)]
    assert parts[-1]["peak_mb"] == 129 and {part["threads"] for part in parts} == {4}
    assert len(endurance._parts([(1.0, 1, 1)])) == 1


def test_the_clip_is_repeated(tmp_path: Path) -> None:
    endurance.film(tmp_path / "v.mp4", 5)
    assert cv2.VideoCapture(str(tmp_path / "v.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 5


@pytest.mark.slow
def test_a_run_keeps_its_threads_and_descriptors(
    narrow_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph, output = detector.write(tmp_path / "detector.onnx"), tmp_path / "out.jsonl"
    assert endurance.main([str(narrow_bundle), str(graph), "--frames", "400", "--output", str(output)]) == 0
    said = capsys.readouterr().out
    rows = [line.strip("| ").split(" | ") for line in said.splitlines() if "%" in line]
    assert "400 frames" in said and len(rows) == 10
    # the first part is the start of the process
    assert len({(threads, files) for *_, threads, files in rows[4:-1]}) == 1
