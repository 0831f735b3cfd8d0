"""A journal: what was added is there again, whatever happened to the end of the file."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posert.runtime.system.journal import Journal

KEY = {"graph": "ab12", "flip": True}
RECORDS: list[Any] = [[0, [1.5, 0.1]], {"a": None}, "text\nof two lines", 7]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "new" / "journal"
    with Journal(path, KEY) as journal:
        for record in RECORDS:
            journal.add(record)
    return path


def test_records_are_there_again(path: Path) -> None:
    with Journal(path, KEY) as journal:
        assert journal.records == RECORDS
        journal.add([1])
    with Journal(path, KEY) as journal:
        assert journal.records == [*RECORDS, [1]]


@given(st.integers(0, 10**6), st.integers(0, 255))
def test_whatever_byte_is_changed_no_other_record_comes_back(
    tmp_path_factory: pytest.TempPathFactory, at: int, value: int
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal"
    with Journal(path, KEY) as journal:
        for record in RECORDS:
            journal.add(record)
    data = bytearray(path.read_bytes())
    data[at % len(data)] = value
    path.write_bytes(data)
    with Journal(path, KEY) as journal:
        assert journal.records == RECORDS[: len(journal.records)]


@pytest.mark.parametrize("order", [[0, 2, 3, 4], [0, 1, 3, 2, 4], [0, 1, 1, 2, 3, 4]])
def test_a_line_that_is_lost_moved_or_doubled_ends_it(path: Path, order: list[int]) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[i] for i in order))
    same = next(i for i, line in enumerate(order) if line != i)
    with Journal(path, KEY) as journal:
        assert journal.records == RECORDS[: same - 1]


def test_a_record_is_on_the_disk_as_soon_as_it_is_added(path: Path) -> None:
    with Journal(path, KEY) as journal:
        journal.add("now")
        assert path.read_bytes().endswith(b'"now"]\n')


@pytest.mark.parametrize(
    ("spoil", "left"),
    [
        (lambda data: data[:-1], 3),  # complete JSON, but nobody knows whether 7 was to be 71
        (lambda data: data + b'[1, "cut sho', 4),
        (lambda data: data + b"\0\0\0\n[5]\n", 4),
        (lambda data: data.split(b"\n")[0] + b"\n", 0),
        (lambda data: data.replace(b"ab12", b"cd34"), 0),
        (lambda data: data.replace(b"1.5", b"1.7"), 0),  # JSON still, but not what was added
        (lambda data: data.replace(b"null", b"[[]]"), 1),
        (lambda data: data + b"00000000 [5]\n", 4),
        (lambda data: b"", 0),
        (lambda data: b"no journal", 0),
    ],
)
def test_what_cannot_be_trusted_is_dropped(path: Path, spoil: Any, left: int) -> None:
    path.write_bytes(spoil(path.read_bytes()))
    with Journal(path, KEY) as journal:
        assert journal.records == RECORDS[:left]
        journal.add("next")
    with Journal(path, KEY) as journal:
        assert journal.records == [*RECORDS[:left], "next"]


def test_zeros_of_gigabytes_behind_the_records(path: Path) -> None:
    os.truncate(path, 1 << 30)  # as a power cut may leave them; no byte of them is on the disk
    with Journal(path, KEY) as journal:
        assert journal.records == RECORDS
    assert path.stat().st_size < 1000


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("somebody else's")
    (tmp_path / "journal").symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="symbolic link"):
        Journal(tmp_path / "journal", KEY)
    assert (tmp_path / "other").read_text() == "somebody else's"
