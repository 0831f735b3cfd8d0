"""Every step of every example, in order, in a folder like a clone after `make demo`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from posert.tests.blocks import blocks, environment, run, runnable

ROOT = Path(__file__).parents[2]
FOLDERS = sorted((ROOT / "examples").glob("[0-9][0-9]_*"))
PAGES = [ROOT / "examples" / "README.md", *(folder / "README.md" for folder in FOLDERS)]
DEMO = "out/demo/hrnet_demo.pose"
QUICK = ("02_own_network", "03_int8")  # they need no bundle of the demo; the others are slow

EXAMPLES = [pytest.param(f, id=f.name, marks=() if f.name in QUICK else pytest.mark.slow) for f in FOLDERS]


@pytest.fixture
def clone(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[Path], Path]:
    """The folder in which the commands of an example run; with the demo's bundle where the example names it."""

    def make(folder: Path) -> Path:
        for name in ("examples", "tests"):
            (tmp_path / name).symlink_to(ROOT / name, target_is_directory=True)
        if any(DEMO in path.read_text(encoding="utf-8") for path in folder.iterdir() if path.is_file()):
            (tmp_path / DEMO).parent.mkdir(parents=True)
            (tmp_path / DEMO).symlink_to(request.getfixturevalue("demo_bundle"))
        return tmp_path

    return make


@pytest.mark.parametrize("folder", EXAMPLES)
def test_every_step(folder: Path, clone: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    run(runnable(text), clone(folder), {**environment(tmp_path_factory.mktemp("cache")), "COLUMNS": "200"})


def test_every_example_is_listed() -> None:
    listed = re.findall(r"^\| \[(\w+)\]\(\1/README.md\)", PAGES[0].read_text(encoding="utf-8"), re.MULTILINE)
    assert listed == [folder.name for folder in FOLDERS] and len(listed) == 9


def test_the_start_is_that_of_the_readme() -> None:
    (start,) = runnable(PAGES[0].read_text(encoding="utf-8"))
    words = [shlex.split(line, comments=True) for line in start.code.splitlines()]
    assert words == [["make", "demo"], ["source", ".venv/bin/activate"]]
    assert f"--output {DEMO}" in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_pages(page: Path) -> None:
    """Links lead somewhere, every script is named, and every block is run or the output of the one above.

    A block that changes the folder would run elsewhere for a reader who copies one after the other.
    """
    text = page.read_text(encoding="utf-8")
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert not [link for link in links if not (page.parent / link).exists()]
    assert {p.name for p in page.parent.iterdir() if p.is_file()} - {"README.md"} <= set(links)
    code = blocks(text)
    assert not [b.line for b in code if re.search(r"^\s*cd ", b.code, re.MULTILINE)]
    said = [output for b in code for output in (b.prints, b.stops) if output is not None]
    assert said == [b.code for b in code if b.language == "text"]
