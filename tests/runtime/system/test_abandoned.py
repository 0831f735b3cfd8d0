"""What processes that were killed left is removed by the next one; what others still use is not."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from posert.runtime.system import files
from posert.runtime.system.files import TemporaryFolder, atomic_folder, atomic_write

WRITER = """
import sys, time
from posert.runtime.system.files import atomic_write
with atomic_write(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    print("written", flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(folder / name)], stdout=subprocess.PIPE, text=True)
        for name in ("killed", "alive")
    ]
    try:
        for writer in writers:
            assert writer.stdout is not None and writer.stdout.readline() == "written\n"
        writers[0].kill()
        writers[0].wait()
        (folder / ".mine.tmp").write_bytes(b"another program's")
        parts = list(folder.glob("*.posert-part"))
        assert len(parts) == 2
        for part in parts:
            os.utime(part, (0, 0))  # written long ago
        fresh = folder / ".new.x.posert-part"  # created, and not locked yet
        fresh.write_bytes(b"")
        with atomic_write(folder / "new") as file:
            file.write(b"x")
        left = sorted(p.name.split(".")[1] for p in folder.iterdir() if p.name.startswith("."))
        assert left == ["alive", "mine", "new"]
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()


def test_a_folder_of_a_killed_process_is_removed_by_the_next(tmp_path: Path) -> None:
    line = f"{WRITER_OF_FOLDERS}({str(tmp_path / 'killed')!r})"
    with subprocess.Popen([sys.executable, "-c", line], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == "written\n"
        writer.kill()
    (part,) = tmp_path.glob("*.posert-part")
    os.utime(part, (0, 0))
    with atomic_folder(tmp_path / "new", "*.json") as alive:
        os.utime(alive, (0, 0))
        files._remove_abandoned.cache_clear()
        with atomic_write(tmp_path / "file") as file:
            file.write(b"x")
        assert alive.is_dir()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "new"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_a_temporary_folder_of_a_killed_process_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    users = [
        subprocess.Popen(
            [sys.executable, "-c", USER_OF_TEMPORARY],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
        for _ in range(2)
    ]
    try:
        killed, alive = (Path(user.stdout.readline().strip()) for user in users if user.stdout is not None)
        users[0].kill()
        users[0].wait()
        os.mkfifo(tmp_path / "pipe.posert-part")  # whose opening would wait for a writer
        (tmp_path / "link.posert-part").symlink_to(tmp_path / "kept")
        (tmp_path / "kept").mkdir()
        for path in tmp_path.iterdir():
            os.utime(path, (0, 0), follow_symlinks=False)
        files._remove_abandoned.cache_clear()
        with TemporaryFolder("work") as mine:
            assert (alive / "a.txt").is_file() and not killed.exists()
        assert not Path(mine).exists()
        left = {alive.name, "pipe.posert-part", "link.posert-part", "kept"}
        assert {p.name for p in tmp_path.iterdir()} == left
    finally:
        for user in users:
            user.kill()
            user.communicate()


def test_a_temporary_folder_goes_with_its_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = TemporaryFolder("source")
    before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    path = Path(folder.name)
    assert path.is_dir()
    del folder
    gc.collect()
    assert not path.exists()
    assert sys.platform != "linux" or len(os.listdir("/proc/self/fd")) < before


USER_OF_TEMPORARY = """
import time
from pathlib import Path
from posert.runtime.system.files import TemporaryFolder
with TemporaryFolder("work") as folder:
    Path(folder, "a.txt").write_text("x")
    print(folder, flush=True)
    time.sleep(60)
"""


WRITER_OF_FOLDERS = """
import sys, time
from pathlib import Path
from posert.runtime.system.files import atomic_folder
def write(path):
    with atomic_folder(path, "*.json") as folder:
        (folder / "a.json").write_text("{}")
        print("written", flush=True)
        time.sleep(60)
write"""
