"""The command line: `posert COMMAND ...`. Each command is a module that is imported when it is called.

A command module has `add_arguments(parser)` and `main(args) -> int` (the exit status). Exit status: 0 done, 1 a gate or
a check said no, 2 the user's mistake or a missing piece, 70 a fault of posert, 130 an interrupt.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from .errors import PosertError
from .registry import unknown_name

# By name: the module and what it is for. Commands of export/ need torch: they are named here and imported only when
# called, so that the edge install works.
COMMANDS = {
    "build": ("posert.export.build", "checkpoint -> checked bundle, with an accuracy gate"),
    "calibrate": ("posert.export.calibrate", "int8 ranges of a model as a file, to read, to merge and to build with"),
    "compile": ("posert.runtime.commands.compile", "engines for TensorRT, ahead of time or for another machine"),
    "run": ("posert.runtime.commands.run", "keypoints of an image, a folder, a video or a webcam"),
    "inspect": ("posert.runtime.commands.inspect", "what a bundle holds: contract, precisions, verdict"),
    "verify": ("posert.runtime.commands.verify", "does this bundle give the trained result on this machine?"),
    "evaluate": ("posert.runtime.commands.evaluate", "score a results file with a data set's own protocol"),
    "compare": ("posert.export.compare", "two graphs held against each other: outputs, layers, joints"),
    "models": ("posert.export.models", "the published models that the catalog knows"),
    "bench": (
        "posert.benchmarks.latency",
        "what frame to keypoints costs here; `bench compare A.json B.json`: which is slower",
    ),
    "doctor": ("posert.runtime.commands.doctor", "what can run on this machine, and what would make the rest work"),
}
_FAULT = 70  # EX_SOFTWARE of sysexits.h


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the `posert` command; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="posert",
        description=__doc__.split("\n", 1)[0],
        epilog=_summary(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", metavar="COMMAND")
    if not arguments or arguments[0].startswith("-"):
        parser.parse_args(arguments or ["--help"])
    if arguments[0] not in COMMANDS:
        print(f"posert: {unknown_name('command', arguments[0], COMMANDS)}", file=sys.stderr)
        return 2
    return call(arguments[0], arguments[1:])


def call(name: str, arguments: Sequence[str]) -> int:
    """Run one command with its own arguments."""
    as_json = "--json" in arguments
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        command = _load(name)
        parser = argparse.ArgumentParser(prog=f"posert {name}", description=COMMANDS[name][1])
        command.add_arguments(parser)
        parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
        status: int = command.main(parser.parse_args(arguments))
        return status
    except BrokenPipeError:  # whoever read our output has seen enough: `posert ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (PosertError, OSError) as error:  # an OSError: a full disk, a folder that may not be written
        if as_json:
            print(json.dumps({"error": str(error), "kind": type(error).__name__}))
        print(f"posert {name}: {error}", file=sys.stderr)
        return getattr(error, "exit_status", 2)
    except KeyboardInterrupt:
        print(f"posert {name}: interrupted", file=sys.stderr)
        return 130
    except Exception:  # Python's own status, 1, says that accuracy fell
        traceback.print_exc()
        print(f"posert {name}: this is a fault of posert; please report it with the lines above", file=sys.stderr)
        return _FAULT


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
