"""One owner of a folder at a time, and owners that ended without a word."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from posert.runtime.errors import InputError
from posert.runtime.system import lock as module
from posert.runtime.system.lock import FolderLock, LockedError, start_time

HOLD = """
import sys, time
from pathlib import Path
from posert.runtime.system.lock import FolderLock
with FolderLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def holder(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_another_process_is_refused_until_the_end(tmp_path: Path) -> None:
    process = holder(tmp_path / "lock")
    with pytest.raises(LockedError, match=rf"in use by process {process.pid} on "):
        FolderLock(tmp_path / "lock")
    process.communicate("")
    with FolderLock(tmp_path / "lock") as lock:
        assert not lock.took_over
    assert list(tmp_path.iterdir()) == []


def test_a_killed_owner_is_found_dead(tmp_path: Path) -> None:
    process = holder(tmp_path / "lock")
    process.send_signal(signal.SIGKILL)
    process.wait()
    with FolderLock(tmp_path / "lock") as lock:
        assert lock.took_over
    assert list(tmp_path.iterdir()) == []


@linux
def test_without_flock_the_owner_is_what_the_file_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_fcntl", lambda: None)
    path, me = tmp_path / "lock", module.myself()
    process = holder(path)
    with pytest.raises(LockedError, match=str(process.pid)):
        FolderLock(path)
    process.communicate("")
    for dead in (
        me | {"pid": process.pid},  # nobody has this number
        me | {"pid": os.getppid(), "start": 1},  # somebody else has it now
        me | {"pid": os.getppid(), "start": start_time(os.getppid()), "boot": "another"},  # before a restart
    ):
        path.write_text(json.dumps(dead))
        with FolderLock(path) as lock:
            assert lock.took_over
    path.write_text(json.dumps(me | {"pid": os.getppid(), "start": start_time(os.getppid())}))
    with pytest.raises(LockedError):
        FolderLock(path)


def test_an_owner_on_another_machine_is_dead_when_it_is_silent(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "start": 1}))
    with pytest.raises(LockedError, match="process 1 on elsewhere"):
        FolderLock(path)
    past = path.stat().st_mtime - module.STALE - 1
    os.utime(path, (past, past))
    with FolderLock(path) as lock:
        assert lock.took_over
        lock.beat()
        assert path.stat().st_mtime > past + module.STALE


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_an_owner_that_was_cut_off_while_it_wrote_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "lock").write_text(text)
    with FolderLock(tmp_path / "lock"):
        pass


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write"):
        FolderLock(tmp_path / "none" / "lock")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "folder"])
def test_a_lock_is_a_file_of_its_own(tmp_path: Path, kind: str) -> None:
    other, lock = tmp_path / "other", tmp_path / "lock"
    if kind == "link":
        other.write_text("somebody else's")
    if kind == "pipe":
        os.mkfifo(lock)
    elif kind == "folder":
        lock.mkdir()
    else:
        lock.symlink_to(other)
    said = {"pipe": "not a regular file", "folder": "Is a directory"}.get(kind, "symbolic link")
    with pytest.raises(InputError, match=rf"cannot write {lock}: .*{said}"):
        FolderLock(lock)
    assert other.exists() == (kind == "link")
    assert kind != "link" or other.read_text() == "somebody else's"


def test_a_lock_of_gigabytes(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text('{"host": ')
    os.truncate(tmp_path / "lock", 6 << 30)
    with FolderLock(tmp_path / "lock") as lock:
        assert not lock.took_over and (tmp_path / "lock").stat().st_size < 1000
