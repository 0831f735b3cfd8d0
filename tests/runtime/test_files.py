"""Files are whole or absent."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from posert.runtime.errors import InputError
from posert.runtime.files import whole_file


def test_written_under_its_name_in_folders_that_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.bin"
    with whole_file(path) as file:
        file.write(b"one")
        assert not path.exists()
    assert path.read_bytes() == b"one"
    assert [p.name for p in path.parent.iterdir()] == ["c.bin"]


def test_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "c.bin"
    path.write_bytes(b"old")
    with whole_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_of_a_write_that_failed(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "c.bin"
    path.write_bytes(b"old")
    with pytest.raises(error), whole_file(path) as file:
        file.write(b"half")
        raise error
    assert [p.name for p in tmp_path.iterdir()] == ["c.bin"]
    assert path.read_bytes() == b"old"


def test_others_may_read_it(tmp_path: Path) -> None:
    with whole_file(tmp_path / "c.bin") as file:
        file.write(b"")
    assert stat.S_IMODE(os.stat(tmp_path / "c.bin").st_mode) & 0o444 == 0o444


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "c.bin", tmp_path / "folder", Path("/")):
        with pytest.raises(InputError, match=f"cannot write {path}"), whole_file(path) as file:
            file.write(b"x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]
    assert not list((tmp_path / "folder").iterdir())


def test_an_error_of_the_writer_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space") as caught, whole_file(tmp_path / "c.bin"):
        raise OSError(28, "No space left on device")
    assert not isinstance(caught.value, InputError)
