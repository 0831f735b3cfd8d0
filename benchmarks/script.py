"""What the scripts of benchmarks/ share: arguments, the journal of results, messages and exit statuses."""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ..runtime.errors import InputError, PosertError
from ..runtime.system.files import check_writable
from ..runtime.system.journal import Journal


def parser(doc: str | None, output: str) -> argparse.ArgumentParser:
    """A parser that shows the script's docstring and knows --output, the journal of finished results."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--output",
        type=Path,
        default=Path(output),
        metavar="FILE",
        help=f"results as JSON lines; the same command resumes after an interrupt ({output})",
    )
    return made


def run(
    arguments: argparse.ArgumentParser, work: Callable[[argparse.Namespace], int], argv: Sequence[str] | None
) -> int:
    """Parse `argv` (None: the command line) and do the work, which returns the exit status.

    An error of posert ends with its message and its status, an interrupt with 130.
    """
    args = arguments.parse_args(argv)
    try:
        check_writable(args.output)
        return work(args)
    except PosertError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print(f"interrupted; finished results are in {args.output}, the same command resumes", file=sys.stderr)
        return 130


def open_journal(path: Path, benchmark: str, **key: Any) -> Journal:
    """The journal of a benchmark with this key; one with another key is started over.

    Raises InputError: the file is something else, which would be overwritten.
    """
    if path.exists() and not re.match(r'\["\w{8}", {"benchmark": ', path.read_text(errors="replace")):
        raise InputError(f"{path} holds no results of a benchmark: remove it or choose another --output")
    return Journal(path, {"benchmark": benchmark, **key})


def digest(path: str | Path) -> str:
    """The sha256 of a file, for a key. Raises InputError: it cannot be read."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error


def numbers(text: str) -> list[int]:
    """An argument such as "1,8": numbers above 0."""
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers above 0, such as 1,8")
    return [int(part) for part in parts]


def log(text: str) -> None:
    """A line about progress on standard error."""
    print(text, file=sys.stderr, flush=True)


def markdown(head: str, rows: Iterable[Sequence[str]]) -> str:
    """A table; `head` is such as "model | ms"."""
    return "\n".join([f"| {head} |", "|---" * len(head.split("|")) + "|", *(f"| {' | '.join(row)} |" for row in rows)])
