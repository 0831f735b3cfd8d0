"""The comparison of libraries that read videos."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from posert.benchmarks import video_readers


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (64, 48))
    for i in range(12):
        writer.write(np.full((48, 64, 3), 20 * i, np.uint8))
    writer.release()
    return path


def test_both_read_every_frame(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("av")
    output = tmp_path / "readers.jsonl"
    assert video_readers.main([str(clip), "--rounds", "2", "--output", str(output)]) == 0
    said = capsys.readouterr().out
    assert "| clip.mp4 | 1 |" in said and "0 frames are in one alone" in said
    assert len(output.read_text().splitlines()) == 3  # a header and two rounds


def test_what_is_no_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert video_readers.main([str(tmp_path / "none.mp4"), "--output", str(tmp_path / "a.jsonl")]) == 2
    assert "no such video" in capsys.readouterr().err
    (tmp_path / "text.mp4").write_text("no video")
    assert video_readers.main([str(tmp_path / "text.mp4"), "--output", str(tmp_path / "a.jsonl")]) == 2
    assert "text.mp4" in capsys.readouterr().err
