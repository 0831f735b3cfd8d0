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

from ...backends import backends
from ...bench.compare import compare, lines, load, summary, to_json
from ...bench.measure import MIN_ROUNDS, Settings, Side
from ...bench.stages import MODES
from ...bench.sweep import Cells, Result, sweep
from ...bench.table import table
from ...errors import InputError
from ...registry import unknown_name
from ...system.files import check_writable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add = parser.add_argument
    add("bundle", nargs="+", help="a .pose file; or the word compare and two files written by --output")
    add("--backend", default="all", help="comma list (default: all that can run here)")
    add("--precision", default="all", help="comma list (default: all that the bundle holds)")
    add("--mode", default=",".join(MODES), help="comma list (default: latency,throughput)")
    add("--people", default="1,5,20", help="people per frame, comma list (default: 1,5,20)")
    add("--rounds", type=int, help="rounds to time (default: 20; 40 with --against)")
    add("--threads", type=int, metavar="N", help="limit the CPU threads")
    add("--cpus", metavar="LIST", help="pin to these processors, such as 0,2-3")
    add("--flip-test", action="store_true", help="run each crop's mirror image too")
    add("--output", type=Path, metavar="FILE", help="write the time of every call as JSON")
    add("--against", type=Path, metavar="BUNDLE", help="time an older bundle in turn: is the first one slower?")
    add("--against-python", metavar="FILE", help="the same with another install of posert: its python")


def main(args: argparse.Namespace) -> int:
    """Run the command; returns 1 if a comparison finds something slower, 130 if it was interrupted."""
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
    try:
        people = tuple(int(n) for n in args.people.split(","))
        cpus = processors(args.cpus) if args.cpus else None
    except ValueError as error:
        raise InputError(f"--people {args.people} --cpus {args.cpus}: {error}; expected such as 1,5,20") from error
    against = bool(args.against or args.against_python)
    rounds = args.rounds if args.rounds is not None else 40 if against else 20
    if min(people) < 1 or rounds < 1 or (args.threads is not None and args.threads < 1):
        raise InputError("expected 1 or more for --people, --rounds and --threads")
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
    names, modes = args.backend.split(","), args.mode.split(",")
    for kind, seen, known in (("backend", names, ["all", *backends()]), ("mode", modes, list(MODES))):
        for name in seen:
            if name not in known:
                raise InputError(unknown_name(kind, name, known))
    wanted = backends() if "all" in names else names
    return [(b, p, modes) for b in wanted for p in args.precision.split(",")]


def _outputs(output: Path | None, count: int) -> list[Path | None]:
    """One file, and one beside it for --against."""
    if output is None:
        return [None] * count
    paths = [output, output.with_suffix(f".against{output.suffix}")][:count]
    for path in paths:
        check_writable(path)
    return list(paths)


def _report(a: Result, b: Result, as_json: bool) -> int:
    verdicts = compare(a, b)
    if as_json:
        print(json.dumps({"summary": summary(verdicts), "rows": to_json(verdicts)}))
    else:
        print("\n".join(lines(a, b, verdicts)))
    return 1 if any(v.ratio.verdict == "slower" for v in verdicts) else 0
