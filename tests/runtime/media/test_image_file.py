"""Images within bounds, wherever their bytes come from: what hostile files declare."""

from __future__ import annotations

import os
import re
import struct
import subprocess
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

FORMATS = (".avif", ".bmp", ".gif", ".jpg", ".jp2", ".png", ".ppm", ".tiff", ".webp")


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
    if kind == ".jp2":  # in the codestream, and not in the box before it
        data = bytearray(encoded(kind, 64, 64))
        at = data.index(b"\xff\x4f\xff\x51") + 8
        data[at : at + 8] = data[at + 16 : at + 24] = struct.pack(">II", 30_000, 30_000)
        return bytes(data)
    if kind == ".j2k":
        return huge(".jp2")[huge(".jp2").index(b"\xff\x4f\xff\x51") :]
    if kind == ".tiff":  # whose directory lies behind megabytes
        data = bytearray(encoded(kind, 1000, 700, cv2.IMWRITE_TIFF_COMPRESSION, 1))
        at = struct.unpack_from("<I", data, 4)[0]
        assert at > 1 << 20
        for entry in (at + 2, at + 14):
            assert struct.unpack_from("<H", data, entry)[0] in (256, 257)
            data[entry + 2 : entry + 4], data[entry + 8 : entry + 12] = struct.pack("<H", 4), struct.pack("<I", 30_000)
        return bytes(data)
    data = bytearray(encoded(".jpg", 64, 64))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 30_000, 30_000)
    comments = 20 * (b"\xff\xfe\xff\xff" + bytes(65533)) if kind == ".jpeg" else b""  # before its size
    return bytes(data[:2] + comments + data[2:])


@pytest.mark.parametrize("kind", [".jpg", ".jpeg", ".jp2", ".j2k", ".png", ".tiff"])
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


def test_a_folder_of_the_largest_images_is_not_read_ahead(tmp_path: Path, narrow_bundle: Path) -> None:
    """Of images of 133 million pixels each takes 0.4 GB: by number four to six would be there at a time."""
    pixels = np.full((11500, 11600, 3), 90, np.uint8)
    data = cv2.imencode(".png", pixels)[1].tobytes()
    names = tuple(f"{i}.png" for i in range(5))
    for name in names:
        (tmp_path / name).write_bytes(data)
    script = (
        "import sys\nfrom posert.runtime.cli.main import main\nfrom posert.runtime.system.memory import peak_mb\n"
        "assert main(sys.argv[1:]) == 0\nassert peak_mb() < 1700, peak_mb()"  # 1300 where this was written
    )
    command = ["run", narrow_bundle, tmp_path, "--output", tmp_path / "out"]
    subprocess.run([sys.executable, "-c", script, *map(str, command)], check=True, timeout=300)

    script = (
        "import sys\nfrom posert.runtime.annotation.reading import Reading\n"
        "from posert.runtime.annotation.shard import Shard\nfrom posert.runtime.system.memory import peak_mb\n"
        "reading = Reading(Shard(0, 'images', sys.argv[1], tuple(sys.argv[2:])), threads=3)\n"
        "assert [image.shape for _, image in reading] == (len(sys.argv) - 2) * [(11500, 11600, 3)]\n"
        "assert peak_mb() < 1500, peak_mb()"  # 1300
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path), *names], check=True, timeout=300)


def test_of_the_formats_that_take_more_while_they_are_decoded_less_is_read() -> None:
    pixels = np.full((8200, 8200, 3), 90, np.uint8)  # 67.2 million pixels
    for suffix in (".avif", ".jp2"):
        made, data = cv2.imencode(suffix, pixels, [cv2.IMWRITE_AVIF_SPEED, 10] if suffix == ".avif" else [])
        assert made and decode_image(data.tobytes()) is None


def test_formats_whose_size_cannot_be_told() -> None:
    for suffix, kind in ((".ras", np.uint8), (".hdr", np.float32), (".pfm", np.float32)):
        made, data = cv2.imencode(suffix, np.zeros((9, 5, 3), kind))
        assert made and decode_image(data.tobytes()) is None


def test_one_byte_makes_a_tiff_another_kind_of_file() -> None:
    data = bytearray(encoded(".tiff", 64, 64))
    data[2] = 43  # BigTIFF, whose first offset is what was the compressed image
    data[8:16] = b"\xff" * 8
    assert declared_size(bytes(data)) is None and decode_image(bytes(data)) is None


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


def test_scans_without_end() -> None:
    data = encoded(".jpg", 64, 64, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    first, second = (found.start() for found in list(re.finditer(b"\xff\xda", data))[1:3])
    again = data[first : first + 20]
    assert decode_image(data[:second] + 300 * again + data[second:]) is None
    assert decode_image(data[:second] + 100 * again + data[second:]) is not None


def test_what_lies_behind_the_end_of_a_png() -> None:
    data = encoded(".png", 8, 8)
    assert np.array_equal(decode_image(data + b"anything"), decode_image(data))  # type: ignore[arg-type]
