"""Sources of frames: what hostile files declare, and the thread that reads ahead."""

from __future__ import annotations

import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posert.runtime.media.image_size import declared_size
from posert.runtime.media.sources import MAX_PIXELS, open_source, read_pixels
from posert.runtime.system.memory import peak_mb

FORMATS = (".bmp", ".gif", ".jpg", ".jp2", ".png", ".tiff", ".webp")


def encoded(suffix: str, width: int, height: int, *options: int) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    good, data = cv2.imencode(suffix, pixels, list(options))
    assert good
    return data.tobytes()


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("size", [(70, 300), (640, 479)])
def test_the_declared_size_is_that_of_the_decoded_image(suffix: str, size: tuple[int, int]) -> None:
    assert declared_size(encoded(suffix, *size)) == size


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".jpg", (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
        (".webp", (cv2.IMWRITE_WEBP_QUALITY, 101)),  # lossless
        (".webp", (cv2.IMWRITE_WEBP_QUALITY, 50)),
        (".tiff", (cv2.IMWRITE_TIFF_COMPRESSION, 1)),
    ],
)
def test_other_kinds_of_a_format(suffix: str, options: tuple[int, ...]) -> None:
    assert declared_size(encoded(suffix, 33, 44, *options)) == (33, 44)


@pytest.mark.parametrize("mode", [cv2.IMREAD_GRAYSCALE, cv2.IMREAD_UNCHANGED])
def test_alpha_and_grey(mode: int) -> None:
    channels = 1 if mode == cv2.IMREAD_GRAYSCALE else 4
    for suffix in (".png", ".webp", ".tiff"):
        data = cv2.imencode(suffix, np.zeros((9, 5, channels), np.uint8))[1].tobytes()
        assert declared_size(data) == (5, 9)


@given(
    st.sampled_from(FORMATS),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6),
    st.integers(0, 200),
)
def test_damaged_headers(suffix: str, flips: list[tuple[int, int]], end: int) -> None:
    data = bytearray(encoded(suffix, 64, 64))
    for at, value in flips:
        data[at % len(data)] = value
    size = declared_size(bytes(data[: len(data) - end]))
    assert size is None or all(side >= 0 for side in size)


def huge(kind: str) -> bytes:
    """A few bytes that declare 900 million pixels."""
    if kind == ".png":
        head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
        chunk = b"IHDR" + head
        return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    data = bytearray(encoded(".jpg", 64, 64))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 30_000, 30_000)
    return bytes(data)


@pytest.mark.parametrize("kind", [".jpg", ".png"])
def test_a_few_bytes_that_declare_gigabytes(tmp_path: Path, kind: str) -> None:
    assert MAX_PIXELS < 30_000**2
    path = tmp_path / f"huge{kind}"
    path.write_bytes(huge(kind))
    before = peak_mb()
    assert read_pixels(path) is None
    after = peak_mb()
    assert before is None or after is None or after - before < 300  # MB; decoded it has 2,700


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


def test_a_file_larger_than_any_image(tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(1 << 40)  # no byte of it is on the disk
    assert read_pixels(tmp_path / "a.png") is None
