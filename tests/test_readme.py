"""Every block of the README is run, in order, in one folder, as a reader would who copies them."""

from __future__ import annotations

import configparser
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from posert.runtime.cli.command import command_modules, load_command
from posert.tests.blocks import Block, blocks, environment, run, runnable

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
OFFLINE = ("demo", "random")


RUNNABLE = runnable(TEXT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the blocks run: `export/build_engine.py` is there, as in the checkout, and nothing else."""
    path = tmp_path_factory.mktemp("readme")
    (path / "export").symlink_to(ROOT / "export", target_is_directory=True)
    return path


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return environment(tmp_path_factory.mktemp("cache"))


def lines(code: str) -> list[str]:
    """Commands of a shell block, continued lines joined."""
    joined = code.replace("\\\n", " ")
    return [line.strip().removeprefix("$ ") for line in joined.splitlines() if line.strip() and line.strip()[0] != "#"]


def without_running(words: list[str]) -> bool:
    """Whether a command is one that is only checked: it installs, runs everything, needs a network or a camera."""
    if words[0] == "make":
        targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert set(words[1:]) <= targets, f"the Makefile has {sorted(targets)}"
    elif "pip" in words[:3] and "install" in words:
        config = configparser.ConfigParser()
        config.read(ROOT / "setup.cfg")
        for word in words:
            if extras := re.fullmatch(r"(?:posert|\.)\[(.+)\]", word):
                assert set(extras[1].split(",")) <= set(config["options.extras_require"]), word
            if word.endswith(".txt"):
                assert (ROOT / word).is_file()
    elif words[0] in ("git", "cd", "source", "."):
        pass
    elif "build" in words[:2] or words[:2] == ["python", "export/build_engine.py"]:
        import argparse

        parser = argparse.ArgumentParser()
        load_command("build").add_arguments(parser)
        parser.add_argument("--json", action="store_true")
        return parser.parse_args(words[2:]).weights not in OFFLINE
    else:
        return words[:2] == ["posert", "run"] and any(w.isdigit() or "://" in w for w in words[2:4])
    return True


@pytest.mark.parametrize("block", RUNNABLE, ids=lambda b: f"{b.language} in line {b.line}")
def test_block(block: Block, folder: Path, variables: dict[str, str]) -> None:
    if block.language != "python":
        kept = (line for line in lines(block.code) if not without_running(shlex.split(line, comments=True)))
        block = replace(block, code="\n".join(kept))
    run([block], folder, variables)


def test_there_is_something_to_run() -> None:
    assert {b.language for b in RUNNABLE} >= {"python", "bash"}
    commands = [shlex.split(line, comments=True) for b in RUNNABLE if b.language != "python" for line in lines(b.code)]
    assert ["make", "demo"] in commands and ["make", "test"] in commands
    assert any(not without_running(words) for words in commands)


def test_blocks_have_a_language() -> None:
    """A block without one would not be run, and nobody would know."""
    fences = re.findall(r"^```(\w*)$", TEXT, re.MULTILINE)
    assert all(fences[0::2]) and not any(fences[1::2])
    assert set(fences[0::2]) <= {"python", "bash", "sh", "text", "json"}


def test_commands_in_the_text_exist() -> None:
    for name in re.findall(r"`posert ([a-z]+)", TEXT):
        assert name in command_modules(), name


def test_links_and_pictures_exist() -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", TEXT)
    targets = [link.split("#")[0] for link in links if "://" not in link and not link.startswith("#")]
    assert targets
    assert not [t for t in targets if not (ROOT / t).exists()]


def test_the_file_tree_is_the_file_tree() -> None:
    """Names in a text block that look like files or folders are there, in the folder that they stand under."""
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (tree,) = [b.code for b in blocks(contributing) if b.language == "text" and "runtime/" in b.code]
    top = ROOT
    for line in tree.splitlines():
        names = re.match(r"(\s*)((?:[\w./-]+ )*[\w./-]+)(?:\s{2,}|$)", line)
        if not names:
            continue
        indented, entries = names[1], names[2].split()
        if not indented:
            top = ROOT / entries[0]
            assert top.exists(), entries[0]
        for entry in entries if indented else ():
            assert (top / entry).exists(), f"{top.name}/{entry}"
