"""The entry point of `posert COMMAND ...`: help, error messages and exit statuses.

Exit status: 0 done, 1 a gate or a check failed, 2 a mistake or a missing part, 3 a gate could not tell, 70 an internal
error, 130 Ctrl-C, 143 SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import errno
import io
import json
import logging
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Sequence
from importlib import metadata
from typing import Any, NoReturn

from ..errors import PosertError
from ..system.signals import StopSignals
from .command import GROUPS, Command, UsageError, command_modules, load_command

_INTERNAL_ERROR = 70  # EX_SOFTWARE of sysexits.h
_PURPOSE = "Build 2D human-pose models into checked bundles, and run them on images and videos."


def main(argv: Sequence[str] | None = None) -> int:
    """Run `posert` with arguments (default: those of the process) and return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in arguments
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # File names may hold characters that the terminal's encoding lacks. Standard error escapes them by itself.
        sys.stdout.reconfigure(errors="backslashreplace")
    who = "posert"
    with StopSignals() as stop:
        try:
            name, *rest = arguments or ["--help"]
            if name.startswith("-"):
                print(_about(name))
                status = 0
            else:
                command, who = load_command(name), f"posert {name}"
                if rest and rest[0] in command.subcommands:
                    second, *rest = rest
                    command, who = command.subcommands[second], f"{who} {second}"
                status = _run(command, who, rest)
            _flush_output()
            return stop.status if stop.number else status
        except BrokenPipeError:  # the reader of our output has stopped: `posert ... | head`
            _drop_output()
            return 0
        except (KeyboardInterrupt, Exception) as error:
            if _interrupted(error):
                status = stop.status if stop.number else 130
                print(f"{who}: {'terminated (SIGTERM)' if status == 143 else 'interrupted'}", file=sys.stderr)
                return status
            if isinstance(error, PosertError | OSError):  # an OSError: a full disk, a folder without write permission
                return _report(who, error, as_json)
            traceback.print_exc()  # Python's own status would be 1, which means a failed check
            print(f"{who}: internal error; please report it with the traceback above", file=sys.stderr)
            return _INTERNAL_ERROR


def _interrupted(error: BaseException | None) -> bool:
    """Whether it is an interrupt, or one made it: a C++ module that is interrupted at its import raises ImportError."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


class _Parser(argparse.ArgumentParser):
    """Raises its errors, so that they are reported like all others, with --json as JSON."""

    def print_help(self, file: Any = None) -> None:
        print(self.format_help(), end="", file=file)  # argparse's own drops what cannot be written

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        raise UsageError(f"{message}; see {self.prog} --help")


def command_parser(command: Command, prog: str) -> argparse.ArgumentParser:
    """The parser of a command that is called `prog`, such as "posert run"."""
    # Without abbreviations: a new option could change what a short one means.
    more = "; ".join(f"{prog} {word} --help: {sub.summary}" for word, sub in command.subcommands.items())
    parser = _Parser(prog=prog, description=f"{command.summary}.", epilog=more or None, allow_abbrev=False)
    command.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    return parser


def _run(command: Command, prog: str, arguments: Sequence[str]) -> int:
    try:
        parser = command_parser(command, prog)
        for argument in arguments:
            if new := command.renamed.get(argument.split("=")[0]):
                parser.error(f"{argument.split('=')[0]} is now {new}")
        try:
            args, rest = parser.parse_known_args(arguments)
        except SystemExit:  # --help was printed
            return 0
        if rest:
            parser.error(f"unrecognized arguments: {' '.join(rest)}{_nearest(rest, parser)}")
        return command.run(args)
    except ModuleNotFoundError as error:
        library = (error.name or "").split(".")[0]
        if library in ("", "posert"):
            raise
        pip = f'pip install "posert[{command.extra}]"' if command.extra else "pip install posert"
        needed = f"the Python package {library!r}, which is not installed"
        raise PosertError(f"this command needs {needed}: {pip}") from error


def _nearest(unknown: Sequence[str], parser: argparse.ArgumentParser) -> str:
    known = re.findall(r"--[\w-]+", parser.format_usage())
    near = [name for word in unknown if word.startswith("-") for name in difflib.get_close_matches(word, known, n=1)]
    return f". Did you mean {' and '.join(near)}?" if near else ""


def _about(option: str) -> str:
    """The answer to an option in place of a command."""
    if option in ("-h", "--help"):
        return _help()
    if option == "--version":
        return _version()
    raise UsageError(f"unknown option {option}; options follow a command: posert COMMAND --option")


def _help() -> str:
    commands = {name: load_command(name) for name in command_modules()}
    width = max(map(len, commands))
    lines = ["usage: posert COMMAND ...", "", _PURPOSE]
    for group, title in GROUPS.items():
        members = [(name, command) for name, command in commands.items() if command.group == group]
        lines += ["", f"{title}:", *(f"  {name:{width}}  {command.summary}" for name, command in sorted(members))]
    return "\n".join([*lines, "", "posert COMMAND --help describes a command; posert --version prints the version."])


def _version() -> str:
    from ..bundle.manifest import SCHEMA

    try:
        version = metadata.version("posert")
    except metadata.PackageNotFoundError:
        version = "(version unknown: not installed with pip)"
    return f"posert {version}; reads and writes bundles of schema {SCHEMA}"


def _report(who: str, error: PosertError | OSError, as_json: bool) -> int:
    """Print an error to standard error, and with --json to standard output; returns the exit status."""
    message = str(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None:
        where = f"temporary files in {tempfile.gettempdir()} (TMPDIR names another folder)"
        message += f", for standard output or for {where}"
    print(f"{who}: {message}", file=sys.stderr)
    with contextlib.suppress(PosertError, OSError):  # standard output may be what cannot be written
        if as_json:
            print(json.dumps({"error": message, "kind": type(error).__name__}))
        _flush_output()
    return error.exit_status if isinstance(error, PosertError) else PosertError.exit_status


def _flush_output() -> None:
    """Flush standard output here, where a full disk can still be reported; when Python exits it is too late."""
    if sys.stdout is None:  # closed by the parent process
        return
    try:
        sys.stdout.flush()
    except OSError as error:
        _drop_output()
        if isinstance(error, BrokenPipeError):
            raise
        raise PosertError(f"cannot write standard output: {error.strerror}; redirect it elsewhere") from error


def _drop_output() -> None:
    """Discard what is left in the buffer, which would fail again when Python exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
