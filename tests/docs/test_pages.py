"""Every block of the site's pages is run, page by page, in a folder as the page Start leaves it.

A block that no test can run says why in its first line, `# not run: REASON`: a reader sees it, too. Its commands are
still checked: options, extras, targets of make and modules have to exist, and Python has to compile.
"""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from posert.docs.generators import links, tutorials
from posert.runtime.cli.command import command_modules, load_command
from posert.runtime.cli.main import command_parser
from posert.tests.blocks import Block, blocks, environment, run, runnable

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
START = ROOT / "docs" / "index.md"
LANGUAGES = {"bash", "python", "text", "json", "yaml"}
NOT_RUN = "# not run: "


def name(page: Path) -> str:
    return page.relative_to(ROOT / "docs").as_posix()


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def not_run(block: Block) -> str:
    """The reason why a block is not run; empty for one that is."""
    first = block.code.splitlines()[0]
    return first.removeprefix(NOT_RUN) if first.startswith(NOT_RUN) else ""


def commands(block: Block) -> list[list[str]]:
    """The words of each command of a shell block."""
    joined = block.code.replace("\\\n", " ")
    pieces = [piece for line in joined.splitlines() for piece in re.split(r"&&|\|\||;", line.partition(" # ")[0])]
    return [words for piece in pieces if (words := shlex.split(piece, comments=True))]


def installs(words: list[str]) -> bool:
    """Whether a command changes the environment: it is checked and not run."""
    return words[0] in ("make", "pip", "source")


def check(words: list[str]) -> None:
    """That a command of ours can be given: its options, extras, target or module exist."""
    while "=" in words[0]:  # a variable before it
        words = words[1:] or ["true"]
    if words[0] == "make":
        targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert {word for word in words[1:] if "=" not in word} <= targets, words
    elif words[:2] == ["pip", "install"]:
        config = configparser.ConfigParser()
        config.read(ROOT / "setup.cfg")
        for word in words:
            if extras := re.fullmatch(r"(?:posert|\.)\[(.+)\]", word):
                assert set(extras[1].split(",")) <= set(config["options.extras_require"]), word
    elif words[0] == "posert":
        command, prog, rest = load_command(words[1]), f"posert {words[1]}", words[2:]
        if rest and rest[0] in command.subcommands:
            command, prog, rest = command.subcommands[rest[0]], f"{prog} {rest[0]}", rest[1:]
        command_parser(command, prog).parse_args(rest)  # UsageError for an option that is not there
    elif words[1:2] == ["-m"]:
        assert find_spec(words[2]) is not None, words


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_blocks_can_be_seen(page: Path) -> None:
    """Every block is fenced, at the left margin, and says its language: others would not be run."""
    tokens = MarkdownIt().parse(text_of(page))
    assert not [token.map for token in tokens if token.type == "code_block"]
    assert len([token for token in tokens if token.type == "fence"]) == len(blocks(text_of(page)))
    assert {block.language for block in blocks(text_of(page))} <= LANGUAGES


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_tables_and_lists_begin_after_an_empty_line(page: Path) -> None:
    """On GitHub they need none; the site would show their lines as text."""
    before, wrong = "", []
    for line in re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL).splitlines():
        if (line.startswith("|") and not re.match(r"$|#|\|", before)) or (
            re.match(r"([-*]|\d+\.) ", line) and not re.match(r"$|#|  |\s*([-*]|\d+\.) ", before)
        ):
            wrong.append(line)
        before = line
    assert not wrong


@pytest.mark.parametrize("page", [p for p in PAGES if runnable(text_of(p))], ids=name)
def test_commands_exist(page: Path) -> None:
    for block in runnable(text_of(page)):
        if block.language == "python":
            compile(block.code, f"{name(page)}:{block.line}", "exec")
            continue
        for words in commands(block):
            check(words)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_in_sentences_exist(page: Path) -> None:
    for command in re.findall(r"`posert ([a-z]+)", text_of(page)):
        assert command in command_modules(), command


def test_addresses_outside_are_well_formed() -> None:
    """They are not looked up: no test needs the network."""
    found = {link for page in PAGES for link in re.findall(r"\]\((\w+:[^)\s]*)\)", text_of(page))}
    assert found and not [link for link in found if not re.fullmatch(r"https://[\w-]+(\.[\w-]+)+(/[\w./#-]*)?", link)]


def run_page(page: Path, folder: Path, cache: Path) -> None:
    """Its blocks, in order. Lines that install something are left out."""
    for block in runnable(text_of(page)):
        if not_run(block):
            continue
        if block.language != "python":
            lines = block.code.replace("\\\n", " ").splitlines(keepends=True)
            kept = [line for line in lines if not (w := shlex.split(line, comments=True)) or not installs(w)]
            block = replace(block, code="".join(kept))
        run([block], folder, environment(cache))


@pytest.fixture(scope="session")
def started(
    made_once: Callable[[str, Callable[[Path], object]], Path],
    demo_bundle: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder in which somebody did what the page Start says."""

    def make(folder: Path) -> None:
        (folder / "docs").symlink_to(ROOT / "docs")
        (folder / "out" / "demo").mkdir(parents=True)
        shutil.copy(demo_bundle, folder / "out" / "demo")
        run_page(START, folder, tmp_path_factory.mktemp("cache"))

    return made_once("started", make)


def runs(page: Path) -> bool:
    return any(not not_run(block) for block in runnable(text_of(page)))


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if runs(p)], ids=name)
def test_blocks_run(page: Path, started: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    if page == START:
        assert (started / "out" / "run" / "keypoints.json").is_file()
        return
    folder = shutil.copytree(started, tmp_path / "folder", symlinks=True)
    run_page(page, folder, tmp_path_factory.mktemp("cache"))


def test_some_run_and_some_say_why_not() -> None:
    every = [block for page in PAGES for block in runnable(text_of(page))]
    assert len([block for block in every if not not_run(block)]) > 20
    assert all(len(reason) > 10 for block in every if (reason := not_run(block)))


class TestDocumentsThatMove:
    """Links of documents outside docs/ on their pages."""

    def test_links(self) -> None:
        text = (
            "[a](docs/int8.md#read-the-verdict) [b](README.md) [c](tests/blocks.py) `[d](x)`\n```text\n[e](none)\n```\n"
        )
        moved = links.moved(text.replace("`[d](x)`", ""), "CHANGELOG.md", "changelog.md")
        assert moved.startswith("[a](int8.md#read-the-verdict) [b](index.md) c (`tests/blocks.py`)")
        assert "[e](none)" in moved
        with pytest.raises(links.DeadLinkError, match="gone.md"):
            links.moved("[a](docs/gone.md)", "CHANGELOG.md", "changelog.md")

    def test_examples(self, tmp_path: Path) -> None:
        folder = tmp_path / "examples" / "01_first"
        folder.mkdir(parents=True)
        (tmp_path / "docs").mkdir()
        (tmp_path / "docs" / "int8.md").write_text("# INT8\n")
        (tmp_path / "examples" / "README.md").write_text("# Examples\n\n[one](01_first/README.md)\n")
        (folder / "README.md").write_text(
            "# First\n\n[up](../README.md) [int8](../../docs/int8.md) [the script](run.py)\n"
        )
        (folder / "run.py").write_text("print(1)\n")
        pages = tutorials.pages(tmp_path)
        assert list(pages) == ["tutorials/index.md", "tutorials/01_first/index.md"]
        assert pages["tutorials/index.md"] == "# Examples\n\n[one](01_first/index.md)\n"
        first = pages["tutorials/01_first/index.md"]
        assert "[up](../index.md) [int8](../../int8.md) [the script](index.md#run.py)" in first
        assert "### run.py { #run.py }\n\n```python\nprint(1)\n```" in first
