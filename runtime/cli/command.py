"""What a command of the command line is, and how commands are found.

A command is one file in one of `PACKAGES`; the file's name is the command's name and its `COMMAND` says the rest. Files
whose name begins with `_` are helpers. `posert --help` imports all command files, so they import what is slow or may be
missing (numpy, OpenCV, torch, rich, ...) inside their functions.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..errors import PosertError
from ..registry import module_names, unknown_name

PACKAGES = ("posert.runtime.cli.commands", "posert.export.commands")
"""By name, because the runtime does not import the export side: that needs torch."""

GROUPS = {
    "make": "make a bundle",
    "run": "run a bundle",
    "check": "check accuracy and speed",
    "deploy": "deploy to a machine",
}


class UsageError(PosertError):
    """Arguments that a command does not accept."""


@dataclass(frozen=True)
class Command:
    """A command of the command line.

    Attributes:
        summary: what it does, as an imperative sentence without a full stop; shown by both kinds of --help.
        group: a key of `GROUPS`.
        add_arguments: declares its arguments. `--json` is added to every command.
        run: does the work and returns the exit status: 0 for done, 1 for a failed check. It raises PosertError for
            mistakes and missing parts. With `args.json` it prints one JSON value to standard output.
        extra: the pip extra that installs the libraries it needs; empty if the edge install has them all.
        renamed: former spellings of its options, each with the present one.
        subcommands: commands of two words, by the second: posert NAME WORD.
    """

    summary: str
    group: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    extra: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)
    subcommands: Mapping[str, Command] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.group not in GROUPS:
            raise PosertError(unknown_name("command group", self.group, GROUPS))


def command_modules() -> dict[str, str]:
    """Name and module of every command, without importing the modules; PosertError for a name given twice."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        for module in module_names(package):
            if module in found:
                raise PosertError(f"the command {module!r} is in {found[module]} and in {package}.{module}; rename one")
            found[module] = f"{package}.{module}"
    return found


def load_command(name: str) -> Command:
    """Import one command; UsageError for an unknown name, PosertError for a file without `COMMAND`."""
    modules = command_modules()
    if name not in modules:
        raise UsageError(unknown_name("command", name, modules))
    command = vars(importlib.import_module(modules[name])).get("COMMAND")
    if not isinstance(command, Command):
        raise PosertError(f"{modules[name]} defines no COMMAND = Command(...); a helper's file name begins with _")
    return command
