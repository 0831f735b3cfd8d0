"""Files that are too large, or no text, are refused before memory is taken for them."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

import pytest

from posert.calib.cache import read_cache
from posert.runtime.accuracy.label_csv import read_label_csv
from posert.runtime.annotation.plan import Plan
from posert.runtime.annotation.sources import find
from posert.runtime.errors import PosertError
from posert.runtime.media.box_file import BoxFile
from posert.runtime.metrics.coco_files import read_json
from posert.runtime.metrics.pckh import read_arrays
from posert.runtime.system.input_file import check_text_file, read_file, read_text_file
from posert.runtime.system.memory import peak_mb

READERS = {
    "annotations.json": read_json,
    "boxes.json": BoxFile,
    "boxes.csv": BoxFile,
    "truth.mat": read_arrays,
    "labels.csv": lambda path: read_label_csv(path, path.parent),
    "cache.json": read_cache,
    "plan.jsonl": Plan,
    "sources.txt": lambda path: find([], str(path)),
}


def sparse(path: Path, size: int, head: bytes = b"") -> Path:
    path.write_bytes(head)
    os.truncate(path, size)  # no byte of the rest is on the disk
    return path


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("head", [b"", b"[1, ", b"a"])
@pytest.mark.parametrize("size", [1 << 30, 6 << 30])
def test_a_file_with_holes_takes_no_memory(tmp_path: Path, name: str, head: bytes, size: int) -> None:
    path = sparse(tmp_path / name, size, head)
    before = peak_mb()
    with pytest.raises(PosertError, match=name):
        READERS[name](path)
    after = peak_mb()
    assert before is None or after is None or after - before < 100


def test_what_is_said(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="byte 3 is 0, and the file no text"):
        check_text_file(sparse(tmp_path / "a", 5000, b"[1,"))
    with pytest.raises(OSError, match="larger than 2048 MiB"):
        check_text_file(sparse(tmp_path / "a", 3 << 30, b"[1,"))
    with pytest.raises(OSError, match="larger than 1 MiB"):
        read_file(sparse(tmp_path / "a", (1 << 20) + 1), 1 << 20)
    with pytest.raises(OSError, match="No such file"):
        read_text_file(tmp_path / "none")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-32-be"])
def test_every_encoding_of_json(tmp_path: Path, encoding: str) -> None:
    data = json.dumps({"a": "é"}, ensure_ascii=False).encode(encoding)
    (tmp_path / "a.json").write_bytes(data)
    assert read_text_file(tmp_path / "a.json") == data
    assert read_json(tmp_path / "a.json") == {"a": "é"}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
@pytest.mark.parametrize(("most", "read"), [(1 << 22, True), (1 << 20, False)])
def test_a_pipe_is_read_to_its_end_or_to_the_bound(tmp_path: Path, most: int, read: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    data = b"[1]" * 600_000

    def write() -> None:
        try:
            (tmp_path / "pipe").write_bytes(data)
        except BrokenPipeError:
            assert not read

    writer = threading.Thread(target=write)
    writer.start()
    if read:
        assert read_file(tmp_path / "pipe", most) == data
    else:
        with pytest.raises(OSError, match="larger than 1 MiB"):
            read_file(tmp_path / "pipe", most)
    writer.join()


def test_a_line_of_a_list_that_is_no_name(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("a.png\n" + "x" * 100_000)
    with pytest.raises(PosertError, match=r"list: line 2 has 100000 characters"):
        find([], str(tmp_path / "list"))
