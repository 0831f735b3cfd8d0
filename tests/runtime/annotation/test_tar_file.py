"""Tar files with headers that lie, links, damage and no end. What is read without a word is everything."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from posert.runtime.annotation.tar_file import TarImages
from posert.runtime.errors import InputError
from posert.runtime.system.memory import peak_mb

PNG = cv2.imencode(".png", np.zeros((40, 40, 3), np.uint8))[1].tobytes()
BLOCKS = -(-len(PNG) // 512) * 512


def member(tar: tarfile.TarFile, name: str, kind: bytes = tarfile.REGTYPE, link: str = "", **pax: str) -> None:
    header = tarfile.TarInfo(name)
    header.type, header.linkname, header.pax_headers = kind, link, pax
    header.size = len(PNG) if kind == tarfile.REGTYPE else 0
    tar.addfile(header, io.BytesIO(PNG))


def packed(path: Path, names: list[str], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name in names:
            member(tar, name)
    return path


def read(path: Path) -> dict[str, bytes | str]:
    return {name: data if isinstance(data, bytes) else str(data) for name, data in TarImages(str(path))}


@pytest.mark.parametrize(
    ("ending", "mode"), [(".tar", "w"), (".tar.gz", "w:gz"), (".tar.bz2", "w:bz2"), (".tar.xz", "w:xz")]
)
def test_images_alone_in_their_order(tmp_path: Path, ending: str, mode: str) -> None:
    path = packed(tmp_path / f"a{ending}", ["b.png", "a/a.JPG", "a.json", "../../c.png"], mode)
    assert list(TarImages(str(path)).names) == ["b.png", "a/a.JPG", "../../c.png"]
    assert set(read(path).values()) == {PNG}


@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
def test_links_are_read_as_what_they_name(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    with tarfile.open(path, "w:gz" if ending == ".tar.gz" else "w") as tar:
        member(tar, "a.png")
        member(tar, "hard.png", tarfile.LNKTYPE, "a.png")
        member(tar, "soft.png", tarfile.SYMTYPE, "a.png")
        member(tar, "away.png", tarfile.SYMTYPE, "/etc/passwd")
        member(tar, "round.png", tarfile.SYMTYPE, "round.png")
        member(tar, "pipe.png", tarfile.FIFOTYPE)
    found = read(path)
    assert found["a.png"] == found["hard.png"] == found["soft.png"] == PNG
    assert "not found" in str(found["away.png"])
    assert found["round.png"] == "a link to itself"
    assert "pipe.png" not in found


def in_the_middle(path: Path) -> None:
    data = bytearray(packed(path, ["a.png", "b.png", "c.png"]).read_bytes())
    data[512 + BLOCKS + 10] ^= 255  # of the second header
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(packed(path, ["a.png", "b.png"]).read_bytes()[: 512 + BLOCKS])  # where the second header begins


def two(path: Path) -> None:
    path.write_bytes(2 * packed(path, ["a.png"]).read_bytes())


def sized(size: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
            member(tar, "a.png", size=size)
            member(tar, "b.png")

    return write


def negative(path: Path) -> None:
    header = tarfile.TarInfo("a.png")
    header.size = -1
    path.write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(1024))


def sparse_map(path: Path) -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        member(tar, "a.png", **{"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 40)})


def long_name(path: Path) -> None:
    header = tarfile.TarInfo("a.png")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 4 << 30
    with path.open("wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        file.truncate(5 << 30)  # no byte of it is on the disk


def chain(path: Path) -> None:
    header = tarfile.TarInfo("a.png")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 5
    path.write_bytes(5000 * (header.tobuf(tarfile.GNU_FORMAT) + b"a.png".ljust(512, b"\0")) + bytes(1024))


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (in_the_middle, rf"at byte {512 + BLOCKS} there is neither a file nor the end"),
        (cut, r"cut short"),
        (two, r"several tar files in one"),
        (sized("-5"), r"size of -5"),
        (sized("-2048"), r"size of -2048"),  # its next header would be itself
        (sized("abc"), r"neither a file nor the end"),
        (negative, r"size of -1"),
        (sparse_map, r"invalid literal"),
        (long_name, r"a name of 4294967296 bytes"),
        (chain, r"recursion"),
        (lambda path: path.write_bytes(b""), r"empty file"),
        (lambda path: path.write_bytes(b"no tar"), r"truncated header"),
        (lambda path: packed(path, ["a.txt"]), r"no image in this tar file"),
    ],
)
def test_damage_is_told(tmp_path: Path, write: Callable[[Path], object], said: str) -> None:
    write(tmp_path / "a.tar")
    before = peak_mb()
    with pytest.raises(InputError, match=said):
        TarImages(str(tmp_path / "a.tar"))
    after = peak_mb()
    assert before is None or after is None or after - before < 100


@pytest.mark.parametrize(("ending", "mode"), [(".tgz", "w:gz"), (".tar.bz2", "w:bz2"), (".tar.xz", "w:xz")])
def test_zeros_behind_compressed_images(tmp_path: Path, ending: str, mode: str) -> None:
    path = packed(tmp_path / f"a{ending}", ["a.png"], mode)
    size = path.stat().st_size
    if ending != ".tar.xz":  # which has no zeros at its end
        path.write_bytes(path.read_bytes() + bytes(-size % 512))  # as on a tape
    assert read(path) == {"a.png": PNG}
    os.truncate(path, 3 << 30)
    with pytest.raises(InputError, match="ends in zeros"):
        TarImages(str(path))


def test_a_member_larger_than_any_image(tmp_path: Path) -> None:
    header = tarfile.TarInfo("a.png")
    header.size = 4 << 30
    with (tmp_path / "a.tar").open("wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        file.truncate(5 << 30)
    before = peak_mb()
    assert read(tmp_path / "a.tar") == {"a.png": "larger than 1 GiB"}
    after = peak_mb()
    assert before is None or after is None or after - before < 100
