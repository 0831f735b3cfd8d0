"""The folder of an export: whole or absent, and nobody's work is removed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from posert.export.output_folder import MARKER, check_folder, new_folder
from posert.runtime.errors import InputError


def write(path: Path, **files: str) -> None:
    check_folder(path)
    with new_folder(path, {"format": "test"}) as folder:
        for name, text in files.items():
            file = folder / name.replace("_", "/")
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)


def test_new_empty_and_ours(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "out"
    write(path, a="1", inner_b="2")
    marker = json.loads((path / MARKER).read_text())
    assert marker["format"] == "test" and set(marker["files"]) == {"a", "inner/b"}
    write(path, c="3")
    assert sorted(p.name for p in path.iterdir()) == sorted(["c", MARKER])
    assert [p.name for p in path.parent.iterdir()] == ["out"]  # nothing is left beside it
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty", a="1")


def test_folders_of_others(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="posert export did not write it: choose another --output"):
        check_folder(tmp_path / "mine")
    (tmp_path / "mine" / MARKER).write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        check_folder(tmp_path / "mine")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is not a folder"):
        check_folder(tmp_path / "file")


def test_what_was_added_or_changed_since_stays(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write(path, a="1", b="2")
    (path / "results.json").write_text("mine")
    (path / "a").write_text("edited")
    with pytest.raises(InputError, match=r"added or changed since posert wrote it \(a, results.json\): move them"):
        check_folder(path)
    (path / "results.json").unlink()
    (path / "a").unlink()  # what was removed is no reason
    check_folder(path)


@pytest.mark.parametrize("error", [InputError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "out"
    write(path, a="1")
    for target in (path, tmp_path / "new"):
        with pytest.raises(error), new_folder(target, {}) as folder:
            (folder / "b").write_text("2")
            raise error
    assert (path / "a").read_text() == "1" and [p.name for p in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    line = f"{KILLED}({str(tmp_path / 'out')!r})"
    with subprocess.Popen([sys.executable, "-c", line], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == "written\n"
        writer.kill()
    (draft,) = tmp_path.iterdir()
    os.utime(draft, (0, 0))
    write(tmp_path / "out", a="1")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


KILLED = """
import time
from pathlib import Path
from posert.export.output_folder import new_folder
def write(path):
    with new_folder(Path(path), {}) as folder:
        (folder / "a").write_text("half")
        print("written", flush=True)
        time.sleep(600)
write"""
