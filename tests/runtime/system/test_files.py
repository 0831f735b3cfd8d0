"""Files are whole or absent."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from posert.runtime.errors import InputError
from posert.runtime.system import files
from posert.runtime.system.files import atomic_folder, atomic_write, check_writable, write_file


def test_written_under_its_name_in_folders_that_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.bin"
    with atomic_write(path) as file:
        file.write(b"one")
        assert not path.exists()
    assert path.read_bytes() == b"one"
    assert [p.name for p in path.parent.iterdir()] == ["c.bin"]


def test_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "c.bin"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_of_a_write_that_failed(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "c.bin"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_write(path) as file:
        file.write(b"half")
        raise error
    assert [p.name for p in tmp_path.iterdir()] == ["c.bin"]
    assert path.read_bytes() == b"old"


def test_others_may_read_it(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "c.bin") as file:
        file.write(b"")
    assert stat.S_IMODE(os.stat(tmp_path / "c.bin").st_mode) & 0o444 == 0o444


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "c.bin", tmp_path / "folder", Path("/")):
        with pytest.raises(InputError, match=f"cannot write {path}"), atomic_write(path) as file:
            file.write(b"x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]
    assert not list((tmp_path / "folder").iterdir())


def test_an_error_of_the_writer_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space") as caught, atomic_write(tmp_path / "c.bin"):
        raise OSError(28, "No space left on device")
    assert not isinstance(caught.value, InputError)


def test_a_place_is_found_out_before_the_work(tmp_path: Path) -> None:
    check_writable(tmp_path / "none" / "yet" / "c.bin")
    (tmp_path / "old.bin").write_bytes(b"old")
    check_writable(tmp_path / "old.bin")
    assert [p.name for p in tmp_path.iterdir()] == ["old.bin"]
    with pytest.raises(InputError, match="it is a folder"):
        check_writable(tmp_path)
    with pytest.raises(InputError, match="old.bin is not a folder"):
        check_writable(tmp_path / "old.bin" / "c.bin")


@pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="a folder that takes no files from anybody is Linux's /proc"
)
def test_a_folder_that_only_seems_to_take_files() -> None:
    """As root os.access says yes."""
    for path in (Path("/proc/q.pose"), Path("/proc/none/q.pose")):
        with pytest.raises(InputError, match=f"cannot write {path}: no file can be created in /proc: .*choose another"):
            check_writable(path)


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="there is no /dev/null")
def test_what_is_no_file_is_not_replaced() -> None:
    with pytest.raises(InputError, match="it is not a regular file"):
        check_writable("/dev/null")


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose new files lie on a disk that is full."""

    monkeypatch.setattr(files, "_open_new", lambda name, flags: os.open("/dev/full", os.O_WRONLY))
    return tmp_path


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full is Linux's /dev/full")
@pytest.mark.parametrize("size", [1, 1 << 20])  # fails at the flush, and at the write
def test_a_full_disk_is_told_with_the_file(full: Path, size: int) -> None:
    said = rf"cannot write {full}/c\.bin: the disk is full \(\d+ MB free\); free some space or"
    with pytest.raises(InputError, match=said), atomic_write(full / "c.bin") as file:
        file.write(bytes(size))
    with (
        pytest.raises(InputError, match=said),
        atomic_write(full / "c.bin") as file,
        zipfile.ZipFile(file, "w") as archive,
    ):
        archive.writestr("member", bytes(size))
    assert not list(full.iterdir())


def test_a_rename_that_fails_is_told_with_the_file(tmp_path: Path) -> None:
    said = f"cannot write {tmp_path}/c: Is a directory; choose"
    with pytest.raises(InputError, match=said), atomic_write(tmp_path / "c"):
        (tmp_path / "c").mkdir()
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


class TestAtomicFolder:
    def test_it_has_its_name_when_it_is_complete(self, tmp_path: Path) -> None:
        with atomic_folder(tmp_path / "new" / "a", "*.json") as folder:
            write_file(folder / "1.json", b"one")
            assert not (tmp_path / "new" / "a").exists()
        assert (tmp_path / "new" / "a" / "1.json").read_bytes() == b"one"
        assert [p.name for p in (tmp_path / "new").iterdir()] == ["a"]
        assert (tmp_path / "new" / "a").stat().st_mode & 0o777 == 0o755

    def test_an_error_leaves_the_old_one(self, tmp_path: Path) -> None:
        with atomic_folder(tmp_path / "a", "*.json") as folder:
            write_file(folder / "old.json", b"")
        with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "a", "*.json") as folder:
            write_file(folder / "new.json", b"")
            raise KeyboardInterrupt
        assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == ["a", "a/old.json"]

    def test_a_failed_renaming_puts_the_old_one_back(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        rename = os.rename

        def fail(old: Path, new: Path) -> None:
            if new == tmp_path / "a" and not Path(old).name.endswith(".old"):
                raise OSError(errno.EIO, "Input/output error")
            rename(old, new)

        with atomic_folder(tmp_path / "a", "*.json") as folder:
            write_file(folder / "old.json", b"")
        monkeypatch.setattr(os, "rename", fail)
        said = "cannot write .*a: Input/output"
        with pytest.raises(InputError, match=said), atomic_folder(tmp_path / "a", "*.json") as folder:
            write_file(folder / "new.json", b"")
        assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == ["a", "a/old.json"]

    @pytest.mark.parametrize("other", ["notes.txt", "sub.json/x.json"])
    def test_what_is_not_ours_is_not_replaced(self, other: str, tmp_path: Path) -> None:
        (tmp_path / "a" / other).parent.mkdir(parents=True)
        (tmp_path / "a" / other).write_text("mine")
        said = "cannot replace the folder .*a: it holds"
        with pytest.raises(InputError, match=said), atomic_folder(tmp_path / "a", "*.json"):
            pass
        assert (tmp_path / "a" / other).read_text() == "mine" and [p.name for p in tmp_path.iterdir()] == ["a"]

    def test_a_link_is_not_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "a").symlink_to(tmp_path / "real")
        with pytest.raises(InputError, match="not a folder"), atomic_folder(tmp_path / "a", "*.json"):
            pass


@pytest.mark.parametrize("name", ["a" * 251 + ".bin", "\N{SNOWMAN}" * 84 + ".b"])
def test_a_name_as_long_as_the_system_takes(tmp_path: Path, name: str) -> None:
    check_writable(tmp_path / name)
    with atomic_write(tmp_path / name) as file:
        file.write(b"x")
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")
def test_the_error_of_the_block_passes_where_the_buffer_cannot_be_written_either(tmp_path: Path) -> None:
    program = """
import resource, sys
from posert.runtime.system.files import atomic_write
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
with atomic_write(sys.argv[1]) as file:
    file.write(b"x")
    raise KeyError("the block's own")
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "a")], capture_output=True, text=True)
    assert done.stderr.rstrip().endswith('KeyError: "the block\'s own"') and not list(tmp_path.iterdir())
