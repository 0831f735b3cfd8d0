"""Images within bounds, wherever their bytes come from: what hostile files declare."""

from __future__ import annotations

import os
import struct
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posert.calib.images import folder
from posert.calib.looks import Picture, phash
from posert.runtime.annotation.reading import Reading
from posert.runtime.annotation.shard import Shard
from posert.runtime.media.image_file import MAX_PIXELS, decode_image, read_bytes, read_pixels
from posert.runtime.media.image_size import declared_size
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
    path.write_bytes(data := huge(kind))
    before = peak_mb()
    assert read_pixels(path) is None and decode_image(data) is None
    assert dict(iter(Reading(Shard(0, "images", str(tmp_path), (path.name,))))) == {path.name: None}
    assert phash(data) is None and Picture(data).people(np.empty((0, 4))) == []
    after = peak_mb()
    assert before is None or after is None or after - before < 300  # MB; decoded it has 2,700


def test_a_file_larger_than_any_image(tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(1 << 40)  # no byte of it is on the disk
    assert read_pixels(tmp_path / "a.png") is None
    with pytest.raises(OSError, match="larger than 1024 MiB"):
        folder(tmp_path)("a.png")
    reading = Reading(Shard(0, "images", str(tmp_path), ("a.png",)))
    assert dict(iter(reading)) == {"a.png": None} and reading.why == {"a.png": "larger than 1024 MiB"}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")  # whose reader would wait for a writer
    (tmp_path / "zero.png").symlink_to("/dev/zero")  # which has no end
    for name in ("pipe.png", "zero.png"):
        assert read_pixels(tmp_path / name) is None
        with pytest.raises(OSError, match="not a regular file"):
            read_bytes(tmp_path / name)
    reading = Reading(Shard(0, "images", str(tmp_path), ("pipe.png", "zero.png")))
    assert set(dict(iter(reading)).values()) == {None}


def test_a_chunk_that_declares_gigabytes() -> None:
    data = bytearray(encoded(".png", 64, 64))
    at = data.index(b"IDAT") - 4
    data[at : at + 4] = b"\xff\xff\xff\xf0"
    before = peak_mb()
    assert decode_image(bytes(data)) is None
    after = peak_mb()
    assert before is None or after is None or after - before < 100  # MB; OpenCV would take 4,000


def test_chunks_without_end() -> None:
    data = encoded(".png", 8, 8)
    empty = struct.pack(">I", 0) + b"teXt" + struct.pack(">I", zlib.crc32(b"teXt"))
    assert decode_image(data[:33] + 2_000_000 * empty + data[33:]) is None
    assert np.array_equal(decode_image(data[:33] + 1000 * empty + data[33:]), decode_image(data))  # type: ignore[arg-type]


def test_what_lies_behind_the_end_of_a_png() -> None:
    data = encoded(".png", 8, 8)
    assert np.array_equal(decode_image(data + b"anything"), decode_image(data))  # type: ignore[arg-type]
