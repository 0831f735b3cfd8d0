"""The command line: `posert COMMAND ...`. Each command is a module that is imported when it is called.

A command module has `add_arguments(parser)` and `main(args) -> int` (the exit status). Exit status: 0 done, 1 a gate or
a check said no, 2 the user's mistake or a missing piece, 70 a fault of posert, 130 an interrupt, 143 SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import io
import json
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from importlib import metadata
from typing import Any, NoReturn

from ..bundle.manifest import SCHEMA
from ..errors import PosertError
from ..registry import unknown_name
from ..system import signals

# By name: the module and what it is for. Commands of export/ need torch: they are named here and imported only when
# called, so that the edge install works.
COMMANDS = {
    "build": ("posert.export.commands.build", "checkpoint -> checked bundle, with an accuracy gate"),
    "calibrate": (
        "posert.export.commands.calibrate",
        "int8 ranges of a model as a file, to read, to merge and to build with",
    ),
    "compile": ("posert.runtime.cli.commands.compile", "engines for TensorRT, ahead of time or for another machine"),
    "run": ("posert.runtime.cli.commands.run", "keypoints of an image, a folder, a video or a webcam"),
    "inspect": ("posert.runtime.cli.commands.inspect", "what a bundle holds: contract, precisions, verdict"),
    "verify": ("posert.runtime.cli.commands.verify", "does this bundle give the trained result on this machine?"),
    "evaluate": ("posert.runtime.cli.commands.evaluate", "score a results file with a data set's own protocol"),
    "compare": ("posert.export.commands.compare", "two graphs held against each other: outputs, layers, joints"),
    "models": ("posert.export.commands.models", "the published models that the catalog knows"),
    "bench": (
        "posert.runtime.cli.commands.bench",
        "what frame to keypoints costs here; `bench compare A.json B.json`: which is slower",
    ),
    "doctor": ("posert.runtime.cli.commands.doctor", "what can run on this machine, and what would make the rest work"),
}
_FAULT = 70  # EX_SOFTWARE of sysexits.h
_PURPOSE = "Build a 2D human-pose model into one checked file, and run it: from an image or a video to keypoints."


class UsageError(PosertError):
    """Arguments that a command does not take."""


class _Parser(argparse.ArgumentParser):
    """Raises its errors, so that they end like all others: with --json as JSON too."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        raise UsageError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the `posert` command; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if not arguments or arguments[0].startswith("-"):
            _options(arguments or ["--help"])
        if arguments[0] not in COMMANDS:
            raise UsageError(unknown_name("command", arguments[0], COMMANDS))
    except PosertError as error:
        return _tell("posert", error, "--json" in arguments)
    return call(arguments[0], arguments[1:])


def _options(arguments: Sequence[str]) -> NoReturn:
    """What stands before a command: --help and --version end the process, anything else is an error."""
    parser = _Parser(
        prog="posert",
        usage="posert COMMAND ...",
        description=_PURPOSE,
        epilog=_summary(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=_version())
    parser.parse_known_args(arguments)
    parser.error(f"unknown option {arguments[0]}: those of a command stand behind its name, posert COMMAND --option")


def call(name: str, arguments: Sequence[str]) -> int:
    """Run one command with its own arguments."""
    as_json = "--json" in arguments
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # File names may hold what the terminal's encoding lacks. Standard error escapes it by itself.
        sys.stdout.reconfigure(errors="backslashreplace")
    with signals.Termination() as terminated:
        try:
            command = _load(name)
            parser = _Parser(prog=f"posert {name}", description=COMMANDS[name][1])
            command.add_arguments(parser)
            parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
            status: int = command.main(parser.parse_args(arguments))
            _finish_output()
            return signals.STATUS if terminated.came else status
        except BrokenPipeError:  # whoever read our output has seen enough: `posert ... | head`
            _drop_output()
            return 0
        except (PosertError, OSError) as error:  # an OSError: a full disk, a folder that may not be written
            return _tell(f"posert {name}", error, as_json)
        except KeyboardInterrupt:
            how, status = ("ended by SIGTERM", signals.STATUS) if terminated.came else ("interrupted", 130)
            print(f"posert {name}: {how}", file=sys.stderr)
            return status
        except Exception:  # Python's own status, 1, says that accuracy fell
            traceback.print_exc()
            print(f"posert {name}: this is a fault of posert; please report it with the lines above", file=sys.stderr)
            return _FAULT


def _tell(who: str, error: PosertError | OSError, as_json: bool) -> int:
    """Say what went wrong on standard error, and with --json on standard output; returns the exit status."""
    told = str(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None:
        told += f": of standard output, or of {tempfile.gettempdir()} (TMPDIR names another place for temporary files)"
    print(f"{who}: {told}", file=sys.stderr)
    with contextlib.suppress(PosertError, OSError):  # standard output may be what cannot be written
        if as_json:
            print(json.dumps({"error": told, "kind": type(error).__name__}))
        _finish_output()
    return getattr(error, "exit_status", 2)


def _finish_output() -> None:
    """Write what is left in the buffer, here, where a full disk can still be told: when Python ends it is too late."""
    if sys.stdout is None:  # closed by whoever started us
        return
    try:
        sys.stdout.flush()
    except OSError as error:
        _drop_output()
        if isinstance(error, BrokenPipeError):
            raise
        raise PosertError(f"standard output cannot be written: {error.strerror}; send it elsewhere") from error


def _drop_output() -> None:
    """What is left in the buffer would fail once more when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _version() -> str:
    try:
        version = metadata.version("posert")
    except metadata.PackageNotFoundError:
        version = "of unknown version: it was not installed with pip"
    return f"posert {version}; reads and writes bundles of schema {SCHEMA}"


def _load(name: str) -> Any:
    module = COMMANDS[name][0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        library = (error.name or "").split(".")[0]
        if library == "posert":
            raise
        extra = "export" if module.startswith("posert.export") else "evaluate"
        raise PosertError(
            f'this command needs the Python package {library!r}, which is not installed: pip install "posert[{extra}]"'
        ) from error


def _summary() -> str:
    width = max(map(len, COMMANDS))
    return "commands:\n" + "\n".join(f"  {n:{width}}  {summary}" for n, (_, summary) in COMMANDS.items())


if __name__ == "__main__":
    sys.exit(main())
