"""Sources of frames, and the thread that reads ahead."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from posert.runtime.annotation.reading import Reading
from posert.runtime.annotation.shard import Shard
from posert.runtime.errors import InputError
from posert.runtime.media.sources import open_source


def encoded(suffix: str, width: int, height: int) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    good, data = cv2.imencode(suffix, pixels)
    assert good
    return data.tobytes()


def folder_of(tmp_path: Path, count: int) -> Path:
    for i in range(count):
        (tmp_path / f"{i}.png").write_bytes(encoded(".png", 8, 8))
    return tmp_path


def readers() -> int:
    return sum(thread.name == "posert-read" for thread in threading.enumerate())


def test_motion_jpeg_is_a_video_although_it_begins_as_a_jpeg_does(tmp_path: Path) -> None:
    path = tmp_path / "camera.mjpeg"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for _ in range(3):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    source = open_source(str(path))
    assert source.video
    assert len(list(source)) == 3


def test_a_video_ends_where_opencv_raises_an_error_of_its_own(tmp_path: Path) -> None:
    """FFmpeg refuses the file, for want of the stream's format, and OpenCV's own reader then trips over a length."""
    path = tmp_path / "camera.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for _ in range(3):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    data = bytearray(path.read_bytes())
    data[data.index(b"strf")] ^= 1
    data[data.index(b"00dc", data.index(b"movi")) + 7] ^= 8
    path.write_bytes(data)
    capture = cv2.VideoCapture(str(path))
    with pytest.raises(cv2.error, match="m_size"):
        capture.read()
    assert list(open_source(str(path))) == []


def test_a_video_of_larger_frames_than_any(tmp_path: Path) -> None:
    path = tmp_path / "wide.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (8200, 8200))
    writer.write(np.zeros((8200, 8200, 3), np.uint8))
    writer.release()
    with pytest.raises(InputError, match=r"wide\.avi: frames of 8200x8200 px; expected at most 67 million pixels"):
        open_source(str(path))
    with pytest.raises(InputError, match="^frames of 8200x8200 px"):
        Reading(Shard(0, "video", str(path)))


def test_the_thread_ends_with_the_iteration(tmp_path: Path) -> None:
    folder = str(folder_of(tmp_path, 9))
    assert [key for key, _ in open_source(folder)] == [f"{i}.png" for i in range(9)]
    frames = iter(open_source(folder))
    next(frames)
    assert readers() == 1
    frames.close()  # type: ignore[attr-defined]
    assert readers() == 0


def test_a_reader_that_nobody_closed_does_not_abort_the_process(tmp_path: Path) -> None:
    """Python ends daemon threads by force; one that decodes then aborted the process (SIGABRT) after a full disk."""
    (tmp_path / "0.png").write_bytes(encoded(".png", 8, 8))
    (tmp_path / "1.jpg").write_bytes(encoded(".jpg", 4000, 3000))
    script = (
        "import sys, time\n"
        "from posert.runtime.media.sources import open_source\n"
        "class Last:\n"
        "    def __del__(self, sleep=time.sleep): sleep(2)\n"  # while the interpreter ends, the image is decoded
        "frames, last = iter(open_source(sys.argv[1])), Last()\n"
        "next(frames)\n"
        "sys.frames = frames\n"
        "sys.exit(2)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "")
