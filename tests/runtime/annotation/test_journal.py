"""The journal after kills, damage and full disks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posert.runtime.annotation.journal import Journal
from posert.runtime.errors import InputError

RECORDS = [{"shard": i, "why": "é" * i} for i in range(6)]


def written(path: Path) -> Path:
    path.unlink(missing_ok=True)
    with Journal(path) as journal:
        for record in RECORDS:
            journal.add(record)
    return path


def test_what_was_added_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "j")
    with Journal(path) as journal:
        assert list(journal.records()) == RECORDS
        assert journal.damaged == 0


def test_a_cut_at_any_byte_loses_only_what_is_behind_it(tmp_path: Path) -> None:
    path = written(tmp_path / "j")
    data = path.read_bytes()
    lines = data.splitlines(keepends=True)
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        with Journal(path) as journal:
            whole = sum(size >= sum(map(len, lines[: i + 1])) for i in range(len(lines)))
            assert list(journal.records()) == RECORDS[:whole]
            assert journal.damaged == 0
            journal.add({"shard": 99})
            assert list(journal.records()) == [*RECORDS[:whole], {"shard": 99}]


@given(place=st.integers(0), value=st.integers(0, 255))
def test_a_damaged_byte_costs_its_line_or_two(tmp_path_factory: pytest.TempPathFactory, place: int, value: int) -> None:
    path = written(tmp_path_factory.mktemp("j") / "j")
    data = bytearray(path.read_bytes())
    data[place % (len(data) - 1)] = value  # but the last line's end, which is a cut
    path.write_bytes(data)
    with Journal(path) as journal:
        found = list(journal.records())
    assert all(record in RECORDS for record in found)
    assert len(found) >= len(RECORDS) - 2  # a line's end that is damaged joins two


FULL = """
import resource, sys
from pathlib import Path
from posert.runtime.annotation.journal import Journal
from posert.runtime.errors import InputError
path = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, resource.RLIM_INFINITY))
with Journal(path) as journal:
    try:
        journal.add({"shard": 7, "why": "x" * 100})
    except InputError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    journal.add({"shard": 8})
"""


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    path = written(tmp_path / "j")
    done = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True)
    assert done.stdout.startswith(f"cannot write {path}"), done.stderr
    with Journal(path) as journal:
        assert list(journal.records()) == [*RECORDS, {"shard": 8}]
        assert journal.damaged == 0


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write"):
        Journal(tmp_path / "none" / "j")


def test_zeros_of_gigabytes_behind_the_records(tmp_path: Path) -> None:
    path = written(tmp_path / "j")
    os.truncate(path, 1 << 30)  # as a power cut may leave them; no byte of them is on the disk
    with Journal(path) as journal:
        assert list(journal.records()) == RECORDS
    assert path.stat().st_size < 1000


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("somebody else's")
    (tmp_path / "j").symlink_to(tmp_path / "other")
    with pytest.raises(InputError, match="symbolic link"):
        Journal(tmp_path / "j")
    assert (tmp_path / "other").read_text() == "somebody else's"
