"""`posert bench`: end-to-end latency and throughput per backend and precision, with intervals.

posert bench hrnet_w32.pose --output a.json        a table; the time of every call is in a.json
posert bench new.pose --against old.pose           is new slower than old? Timed in turn
posert bench --compare a.json b.json               is b slower than a? Two results of --output
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import InputError
from ...registry import unknown_name
from ...system.files import check_writable
from .. import options
from ..command import Command

if TYPE_CHECKING:
    from ...bench.measure import Settings
    from ...bench.sweep import Cells, Result

_ROUNDS, _ROUNDS_AGAINST = 20, 40


def processors(text: str) -> tuple[int, ...]:
    """Numbers of processors as in "0,2-3", as an argument's `type`."""
    found: list[int] = []
    try:
        for part in text.split(","):
            first, _, last = part.partition("-")
            found += range(int(first), int(last or first) + 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a list such as 0,2-3, got {text!r}") from None
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()
    if not set(found) <= allowed or not found:
        what = f"some of {sorted(allowed)}, which this process may use"
        raise argparse.ArgumentTypeError(f"expected {what}, got {text!r}")
    return tuple(found)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(map(options.positive, options.comma_list(text)))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from ...bench import MODES

    add = parser.add_argument
    add("bundle", nargs="?", type=options.model, help="a .pose or .engine file (or compare results with --compare)")
    options.add_sessions(parser)
    modes = f"{', '.join(MODES)} (default: both)"
    add("--mode", type=options.comma_list, default=list(MODES), metavar="NAME,...", help=modes)
    add("--people", type=_counts, default=(1, 5, 20), metavar="N,...", help="people per frame (default: 1,5,20)")
    rounds = f"rounds to time (default: {_ROUNDS}; {_ROUNDS_AGAINST} with --against)"
    add("--rounds", type=options.positive, metavar="N", help=rounds)
    add("--cpus", type=processors, metavar="LIST", help="pin to these processors, such as 0,2-3")
    add("--flip-test", action="store_true", help="run each crop's mirror image too")
    add("--output", type=Path, metavar="FILE", help="write the time of every call as JSON")
    add("--against", type=Path, metavar="BUNDLE", help="time an older bundle in turn; is the first one slower?")
    add("--against-python", metavar="FILE", help="the same with another install of posert, by its Python interpreter")
    add("--compare", type=Path, nargs=2, metavar=("A", "B"), help="is B slower than A? Two files of --output")


def run(args: argparse.Namespace) -> int:
    """Returns 1 if a comparison finds something slower or nothing could be measured, 130 if it was interrupted."""
    from ...bench.compare import load
    from ...bench.measure import Side
    from ...bench.sweep import sweep
    from ...bench.table import table

    if (args.bundle is None) == (args.compare is None):
        raise InputError("give either a bundle, or two results: posert bench --compare A.json B.json")
    if args.compare:
        return _report(load(args.compare[0]), load(args.compare[1]), args.json)
    sides = [Side(args.bundle)]
    if args.against or args.against_python:
        if args.against_python and shutil.which(args.against_python) is None:
            expected = "expected ENVIRONMENT/bin/python"
            raise InputError(f"--against-python {args.against_python}: no such program; {expected}")
        sides.append(Side(args.against or args.bundle, args.against_python or sys.executable))
    outputs: list[Path | None] = [None] * len(sides)
    if args.output:  # one file, and one beside it for --against
        outputs = [args.output, args.output.with_suffix(f".against{args.output.suffix}")][: len(sides)]
        for path in filter(None, outputs):
            check_writable(path)
    results = sweep(sides, settings(args), _cells(args), outputs)
    if len(results) == 2 and not results[0]["interrupted"]:
        new, old = results
        return _report(old, new, args.json)
    for result in results:
        print(json.dumps(result) if args.json else "\n".join(table(result)))
    if results[0]["interrupted"]:
        return 130
    return 0 if any("error" not in cell for cell in results[0]["cells"]) else 1


def settings(args: argparse.Namespace) -> Settings:
    """How to measure; InputError for too few rounds to compare."""
    from ...bench.measure import MIN_ROUNDS, Settings

    against = bool(args.against or args.against_python)
    rounds = args.rounds or (_ROUNDS_AGAINST if against else _ROUNDS)
    if against and rounds < MIN_ROUNDS:
        raise InputError(f"--rounds {rounds}: a comparison needs {MIN_ROUNDS} or more to tell a difference from chance")
    return Settings(args.people, rounds, args.threads, args.cpus, args.flip_test)


def _cells(args: argparse.Namespace) -> list[Cells]:
    from ...backends import backends
    from ...bench import MODES
    from ...engines.engine_file import EngineFile, is_engine

    for kind, names, known in (("backend", args.backend, [options.ALL, *backends()]), ("mode", args.mode, MODES)):
        for name in names:
            if name not in known:
                raise InputError(unknown_name(kind, name, known))
    if is_engine(args.bundle):  # it runs on one backend in one precision
        built = EngineFile(args.bundle).metadata
        return [(built.backend, built.precision, args.mode)]
    wanted = backends() if options.ALL in args.backend else args.backend
    return [(backend, precision, args.mode) for backend in wanted for precision in args.precision]


def _report(a: Result, b: Result, as_json: bool) -> int:
    from ...bench.compare import compare, lines, summary, to_json

    verdicts = compare(a, b)
    if as_json:
        print(json.dumps({"summary": summary(verdicts), "rows": to_json(verdicts)}))
    else:
        print("\n".join(lines(a, b, verdicts)))
    return 1 if any(v.ratio.verdict == "slower" for v in verdicts) else 0


COMMAND = Command(
    "Measure end-to-end latency and throughput", "check", add_arguments, run, renamed={"compare": "--compare"}
)
