"""The page of figures is made by its own commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from posert.benchmarks import page
from posert.runtime.cli.command import command_modules
from posert.runtime.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
TEXT = "# A\n\n```text\n$ posert one\nold\n```\n\nor\n\n```text\n$ python -m posert.two x\n```\n\n```bash\n$ no\n```\n"


def test_blocks_are_replaced_and_nothing_else(tmp_path: Path):
    path = tmp_path / "page.md"
    path.write_text(TEXT)
    assert page.refresh(path, [], lambda command: f"```text\n$ {command}\nnew\n```") == {}
    assert path.read_text() == TEXT.replace("$ posert one\nold", "$ posert one\nnew").replace("two x", "two x\nnew")
    page.refresh(path, ["two"], lambda command: f"```text\n$ {command}\nnewer\n```")
    assert path.read_text().count("newer") == 1 and "one\nnew\n" in path.read_text()


def test_a_command_that_fails_keeps_the_old(tmp_path: Path):
    path = tmp_path / "page.md"
    path.write_text(TEXT)

    def run(command: str) -> str:
        raise subprocess.CalledProcessError(2, command, stderr="x.pose: no such file\n")

    assert page.refresh(path, ["one"], run) == {"posert one": "x.pose: no such file"}
    assert path.read_text() == TEXT


def test_real_commands_run(tmp_path: Path):
    path = tmp_path / "page.md"
    path.write_text("```text\n$ posert models resnet_50_coco_256x192\n```\n")
    assert page.refresh(path, []) == {}
    lines = path.read_text().splitlines()
    assert lines[1].startswith("$ posert") and "cores" in lines[2] and len(lines) > 4


@pytest.mark.parametrize("command", ["rm -rf x", "python -m http.server", "python x.py"])
def test_only_our_own_commands(tmp_path: Path, command: str):
    path = tmp_path / "page.md"
    path.write_text(f"```text\n$ {command}\n```\n")
    with pytest.raises(InputError, match="only posert's own"):
        page.refresh(path, [])


def test_the_page_names_commands_that_exist():
    found = page._BLOCK.findall((ROOT / page.PAGE).read_text())
    assert len(found) >= 6
    for command in found:
        words = command.split()
        if words[0] == "posert":
            assert words[1] in command_modules()
        else:
            subprocess.run([sys.executable, *words[1:3], "--help"], check=True, capture_output=True)
    with pytest.raises(InputError):
        page.refresh(ROOT / page.PAGE, ["no such word"])
