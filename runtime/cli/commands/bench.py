"""`posert bench BUNDLE`: end-to-end latency and throughput per backend and precision, with intervals.

posert bench hrnet_w32.pose --output a.json        a table; the time of every call is in a.json
posert bench new.pose --against old.pose           is new slower than old? Timed in turn
posert bench compare a.json b.json                 is b slower than a? Two results of --output
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ...bench import MODES
from ...errors import InputError
from ...registry import unknown_name
from ...system.files import check_writable
from .. import options
from ..command import Command

if TYPE_CHECKING:
    from ...bench.measure import Settings
    from ...bench.sweep import Cells, Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("bundle", nargs="+", help="a .pose file; or the word compare and two files written by --output")
    options.add_sessions(parser)
    add(
        "--mode",
        type=options.comma_list,
        default=list(MODES),
        metavar="NAME,...",
        help="latency: a frame at a time; throughput: a stream of frames (default: both)",
    )
    add("--people", default="1,5,20", metavar="N,...", help="people per frame (default: 1,5,20)")
    add("--rounds", type=options.positive, metavar="N", help="rounds to time (default: 20; 40 with --against)")
    add("--cpus", metavar="LIST", help="pin to these processors, such as 0,2-3")
    add("--flip-test", action="store_true", help="run each crop's mirror image too")
    add("--output", type=Path, metavar="FILE", help="write the time of every call as JSON")
    add("--against", type=Path, metavar="BUNDLE", help="time an older bundle in turn: is the first one slower?")
    add("--against-python", metavar="FILE", help="the same with another install of posert: its python")


def run(args: argparse.Namespace) -> int:
    """Returns 1 if a comparison finds something slower, 130 if it was interrupted."""
    from ...bench.compare import load
    from ...bench.measure import Side
    from ...bench.sweep import sweep
    from ...bench.table import table

    if args.bundle[0] == "compare":
        if len(args.bundle) != 3:
            raise InputError(f"compare takes two files: posert bench compare A.json B.json; got {args.bundle[1:]}")
        return _report(load(args.bundle[1]), load(args.bundle[2]), args.json)
    if len(args.bundle) != 1:
        raise InputError(f"expected one bundle, got {args.bundle}; name the second one with --against")
    sides = [Side(Path(args.bundle[0]))]
    if args.against or args.against_python:
        if args.against_python and shutil.which(args.against_python) is None:
            raise InputError(
                f"--against-python {args.against_python}: no such program, expected ENVIRONMENT/bin/python"
            )
        sides.append(Side(args.against or sides[0].bundle, args.against_python or sys.executable))
    outputs = _outputs(args.output, len(sides))
    results = sweep(sides, settings(args), _cells(args), outputs)
    if len(results) == 2 and not results[0]["interrupted"]:
        new, old = results
        return _report(old, new, args.json)
    for result in results:
        print(json.dumps(result) if args.json else "\n".join(table(result)))
    return 130 if results[0]["interrupted"] else 0


def settings(args: argparse.Namespace) -> Settings:
    """The options, checked.

    Raises:
        InputError: one that makes no sense.
    """
    from ...bench.measure import MIN_ROUNDS, Settings

    try:
        people = tuple(int(n) for n in args.people.split(","))
        cpus = processors(args.cpus) if args.cpus else None
    except ValueError as error:
        raise InputError(f"--people {args.people} --cpus {args.cpus}: {error}; expected such as 1,5,20") from error
    against = bool(args.against or args.against_python)
    rounds = args.rounds if args.rounds is not None else 40 if against else 20
    if min(people) < 1:
        raise InputError(f"--people {args.people}: expected 1 or more")
    if against and rounds < MIN_ROUNDS:
        raise InputError(f"--rounds {rounds}: a comparison needs {MIN_ROUNDS} or more to tell a difference from chance")
    return Settings(people, rounds, args.threads, cpus, args.flip_test)


def processors(text: str) -> tuple[int, ...]:
    """Numbers of processors as in "0,2-3".

    Raises:
        ValueError: it is no such list, or this process may not use one of them.
    """
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()
    if not set(found) <= allowed or not found:
        raise ValueError(f"processors {text}: this process may use {sorted(allowed)}")
    return tuple(found)


def _cells(args: argparse.Namespace) -> list[Cells]:
    from ...backends import backends

    for kind, seen, known in (("backend", args.backend, [options.ALL, *backends()]), ("mode", args.mode, list(MODES))):
        for name in seen:
            if name not in known:
                raise InputError(unknown_name(kind, name, known))
    wanted = backends() if options.ALL in args.backend else args.backend
    return [(b, p, args.mode) for b in wanted for p in args.precision]


def _outputs(output: Path | None, count: int) -> list[Path | None]:
    """One file, and one beside it for --against."""
    if output is None:
        return [None] * count
    paths = [output, output.with_suffix(f".against{output.suffix}")][:count]
    for path in paths:
        check_writable(path)
    return list(paths)


def _report(a: Result, b: Result, as_json: bool) -> int:
    from ...bench.compare import compare, lines, summary, to_json

    verdicts = compare(a, b)
    if as_json:
        print(json.dumps({"summary": summary(verdicts), "rows": to_json(verdicts)}))
    else:
        print("\n".join(lines(a, b, verdicts)))
    return 1 if any(v.ratio.verdict == "slower" for v in verdicts) else 0


COMMAND = Command("Measure end-to-end latency and throughput", "check", add_arguments, run)
