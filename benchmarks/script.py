"""What the scripts of benchmarks/ share: arguments, messages and exit statuses."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ..runtime.errors import PosertError
from ..runtime.system.files import check_writable


def run(
    doc: str | None,
    output: str,
    add_arguments: Callable[[argparse.ArgumentParser], None],
    work: Callable[[argparse.Namespace], int],
    argv: Sequence[str] | None = None,
) -> int:
    """Parse the arguments of a script, do its work, and end with a message and an exit status.

    Args:
        doc: the script's docstring, shown by --help.
        output: default of --output, the journal of finished results.
        add_arguments: adds the script's own arguments.
        work: the script; returns its exit status. An error of posert has its own, an interrupt 130.
        argv: arguments; None takes the command line's.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(output),
        metavar="FILE",
        help=f"results as JSON lines; the same command resumes after an interrupt ({output})",
    )
    args = parser.parse_args(argv)
    try:
        check_writable(args.output)
        return work(args)
    except PosertError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print(f"interrupted; finished results are in {args.output}, the same command resumes", file=sys.stderr)
        return 130


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
