"""The reference pages list what the code has: options, packages, exit statuses, environment variables, fields."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from posert.docs.generators import api, cli, fields
from posert.runtime import errors
from posert.runtime.cli import main
from posert.runtime.cli.command import Command, command_modules, load_command

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
VARIABLE = re.compile(r"\bPOSERT_[A-Z_]+\b")


def listed(page: str, heading: str) -> set[str]:
    """The first column of the table below a heading."""
    text = (REFERENCE / page).read_text(encoding="utf-8")
    section = text.partition(f"{heading}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `?(\w+)`? \|", section, re.MULTILINE)) - {"variable", "status"}


def variables(*folders: str) -> set[str]:
    """Names of environment variables that are a string of the code each."""
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return {name for path in files for name in re.findall(r"[\"'](POSERT_[A-Z_]+)[\"']", path.read_text("utf-8"))}


class TestEnvironment:
    def test_what_posert_reads(self) -> None:
        read = variables("runtime", "calib", "export")
        assert listed("environment.md", "## Read by posert") == read and "POSERT_CACHE" in read

    def test_what_tests_read(self) -> None:
        others = variables("tests", "benchmarks") | set(VARIABLE.findall((ROOT / "Makefile").read_text()))
        assert listed("environment.md", "## Read by the tests") == others - variables("runtime", "calib", "export")


def test_exit_statuses() -> None:
    """Of errors, of a gate that cannot tell, and of the command line itself, as the head of its module says."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.PosertError)]
    told = re.findall(r"\b(\d+) ", (main.__doc__ or "").partition("Exit status:")[2])
    expected = {*told, *(str(kind.exit_status) for kind in kinds)}
    assert listed("exit_statuses.md", "# Exit statuses") == expected and len(expected) == 7


def commands() -> dict[str, Command]:
    found = {name: load_command(name) for name in command_modules()}
    inner = {f"{name} {word}": sub for name, one in found.items() for word, sub in one.subcommands.items()}
    return found | inner


class TestCommandLine:
    @pytest.mark.parametrize("name", commands())
    def test_every_option_is_on_the_page_of_its_command(self, name: str) -> None:
        page = cli.pages()[f"{cli.FOLDER}/{name.split()[0]}.md"]
        section = page.partition(f" posert {name}\n")[2].partition("\n## ")[0]
        usage = main.command_parser(commands()[name], f"posert {name}").format_usage()
        options = set(re.findall(r"--[a-z][\w-]*", usage))
        defined = set(re.findall(r"--[a-z][\w-]*", " ".join(re.findall(r"^`(.+)`$", section, re.MULTILINE))))
        assert defined == options and "--json" in defined

    def test_the_list_names_every_command(self) -> None:
        index = cli.pages()[f"{cli.FOLDER}/index.md"]
        assert set(re.findall(r"\]\((\w+)\.md\)", index)) == set(command_modules())

    def test_help_lines_are_no_markup(self) -> None:
        assert cli.markdown("*.json, a_b <c> [d] `e`") == "\\*.json, a\\_b &lt;c> \\[d\\] \\`e\\`"


def test_every_public_name_has_an_entry() -> None:
    pages = api.pages()
    named = api.packages()
    assert {"posert.runtime", "posert.export", "posert.calib", "posert.runtime.results"} <= set(named)
    for package, names in named.items():
        page = pages[f"{api.FOLDER}/{package}.md"]
        assert set(re.findall(rf"^::: {re.escape(package)}\.(\w+)$", page, re.MULTILINE)) == set(names)


@pytest.mark.parametrize("name", ["contract", "artifact", "engine"])
def test_tables_of_fields(name: str) -> None:
    table = fields.filled(f"before\n\n<!-- generated: {name} -->\n\nafter")
    assert table.count("\n| `") > 5 and "<!--" not in table


def test_the_generators_need_no_site_builder() -> None:
    """What tests and schemas use does not import mkdocs, which the dev extra has not."""
    code = "import sys\nfrom posert.docs.generators import api, built, cli, fields, links, schemas, tutorials\n"
    done = subprocess.run([sys.executable, "-c", f"{code}assert 'mkdocs' not in sys.modules"], capture_output=True)
    assert done.returncode == 0, done.stderr
