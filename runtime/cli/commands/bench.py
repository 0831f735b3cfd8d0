"""`posert bench BUNDLE`: what frame to keypoints costs, per backend and precision, and how sure that is.

    posert bench hrnet_w32.pose --output a.json        a table; every call's time goes into a.json
    posert bench compare a.json b.json                 is b slower than a?
    posert bench a.pose --against b.pose               the same, timed in turn: finds the smallest differences

Each backend, precision and mode is measured in a process of its own, warm, in rounds in which its parts take turns. The
network's own time, "bare engine", is measured in the same rounds. `python benchmarks/latency.py` is the same command.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from posert.runtime import doctor
from posert.runtime.backends import backends
from posert.runtime.bench.compare import KIND, SCHEMA, compare, lines, load, summary, to_json
from posert.runtime.bench.measure import FEWEST, Interrupted, Scene, Settings, Side, measure, processors
from posert.runtime.bench.meters import Meters
from posert.runtime.bench.stages import MODES
from posert.runtime.bench.table import table
from posert.runtime.bundle.archive import Bundle
from posert.runtime.cli.command import Command
from posert.runtime.errors import InputError
from posert.runtime.registry import unknown_name
from posert.runtime.system.environment import versions
from posert.runtime.system.files import atomic_write, check_writable
from posert.runtime.system.progress import track

Result = dict[str, Any]
Cells = tuple[str, str, list[str]]  # backend, precision, modes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add = parser.add_argument
    add("bundle", nargs="+", help="a .pose file; or the word compare and two files that --output wrote")
    add("--backend", default="all", help="comma list (all that can run here)")
    add("--precision", default="all", help="comma list (all that the bundle holds)")
    add("--mode", default=",".join(MODES), help="comma list (latency,throughput)")
    add("--people", default="1,5,20", help="comma list: people per frame (1,5,20)")
    add("--rounds", type=int, help="rounds that are timed (20; 40 with --against)")
    add("--threads", type=int, metavar="N", help="bound on CPU threads")
    add("--cpus", metavar="LIST", help="processors to stay on, such as 0,2-3")
    add("--flip-test", action="store_true", help="run mirror images too")
    add("--output", type=Path, metavar="FILE", help="a .json with the time of every call")
    add("--against", type=Path, metavar="BUNDLE", help="time this bundle in turn with the first, and compare")
    add("--against-python", metavar="FILE", help="the same in another install of posert: its python")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns 1 if a comparison finds something slower, 130 if it was interrupted."""
    if args.bundle[0] == "compare":
        if len(args.bundle) != 3:
            raise InputError(f"compare takes two files: posert bench compare A.json B.json; seen {args.bundle[1:]}")
        return _verdict(load(args.bundle[1]), load(args.bundle[2]), args.json)
    if len(args.bundle) != 1:
        raise InputError(f"one bundle at a time, seen {args.bundle}; a second one is named with --against")
    sides = [Side(Path(args.bundle[0]))]
    if args.against or args.against_python:
        sides.append(Side(args.against or sides[0].bundle, args.against_python or sys.executable))
    outputs = _outputs(args.output, len(sides))
    results = sweep(sides, settings(args), _cells(args), outputs)
    if len(results) == 2 and not results[0]["interrupted"]:
        return _verdict(results[0], results[1], args.json)
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
    rounds = args.rounds if args.rounds is not None else 40 if args.against or args.against_python else 20
    if min(people) < 1 or rounds < 1 or (args.threads is not None and args.threads < 1):
        raise InputError("expected 1 or more --people, --rounds and --threads")
    if (args.against or args.against_python) and rounds < FEWEST:
        raise InputError(f"--rounds {rounds}: a comparison needs {FEWEST} or more, to tell a difference from chance")
    return Settings(people, rounds, args.threads, cpus, args.flip_test)


def sweep(sides: Sequence[Side], how: Settings, cells: list[Cells], outputs: Sequence[Path | None]) -> list[Result]:
    """Measure cells of one bundle, or of two in turn; the precision "all" stands for every one.

    Results are written after each cell, so that an interrupt keeps what was measured.
    """
    meters, session = Meters(), uuid.uuid4().hex
    results = [_head(side, how, meters, session) for side in sides]
    with tempfile.TemporaryDirectory(prefix="posert-bench-") as folder:
        scene = Scene(Path(folder), max(how.people))
        expanded, start = list(_expand(cells, results)), time.monotonic()
        for done, (cell, asked) in enumerate(track(expanded, "bench")):
            _tell(" ".join(cell), done, len(expanded), time.monotonic() - start)
            try:
                records = measure(sides, cell, how, scene, meters)
            except Interrupted as stop:
                records = stop.records
                for result in results:
                    result["interrupted"] = True
            for result, record in zip(results, records, strict=True):
                if record.get("launches") or ("error" in record and (asked or not record["absent"])):
                    result["cells"].append(record | accuracy(result, record))
            _write(results, outputs)
            if results[0]["interrupted"]:
                break
    return results


def _tell(what: str, done: int, total: int, seconds: float) -> None:
    """A line for who reads a log; a terminal has its bar. Each row takes half a minute and more."""
    if not sys.stderr.isatty():
        left = f", about {seconds / done * (total - done) / 60:.0f} min left" if done else ""
        print(f"bench {done + 1} of {total}: {what}{left}", file=sys.stderr, flush=True)


def accuracy(result: Result, record: dict[str, Any]) -> dict[str, Any]:
    """What the bundle's gate says of a backend and a precision: AP, on how many people, without flip test."""
    gate = result["accuracy"]
    if result["settings"]["flip_test"]:
        return {"ap": None, "ap_note": "not measured with flip test"}
    for row in gate["rows"]:
        if (row["backend"], row["precision"]) == (record["backend"], record["precision"]):
            known = row["ap"] is not None
            note = f"{gate['people']} {gate['kind']} people" if known else "unproven"
            return {"ap": row["ap"], "ap_note": note}
    return {"ap": None, "ap_note": "not measured on this backend"}


def _cells(args: argparse.Namespace) -> list[Cells]:
    names, modes = args.backend.split(","), args.mode.split(",")
    for kind, seen, known in (("backend", names, ["all", *backends()]), ("mode", modes, list(MODES))):
        for name in seen:
            if name not in known:
                raise InputError(unknown_name(kind, name, known))
    wanted = backends() if "all" in names else names
    return [(b, p, modes) for b in wanted for p in args.precision.split(",")]


def _expand(cells: list[Cells], results: list[Result]) -> Iterator[tuple[tuple[str, str, str], bool]]:
    """Cells with every precision by name, and whether it was asked for; backends that cannot run become rows."""
    probes: dict[str, doctor.Probe] = {}
    for backend, precision, modes in cells:
        if backend not in probes:
            probes[backend] = probe = doctor.probe(backend)
            if probe.state != "ready":
                for result in results:
                    result["cells"].append({"backend": backend, "error": f"{probe.state}: {probe.reason}"})
        if probes[backend].state == "ready":
            known = list(probes[backend].facts["precisions"])
            for name in known if precision == "all" else [precision]:
                yield from (((backend, name, mode), precision != "all") for mode in modes)


def _head(side: Side, how: Settings, meters: Meters, session: str) -> Result:
    with Bundle(side.bundle) as bundle:
        gate = bundle.accuracy
        data = gate.get("data", {})
        kept = [{k: r.get(k) for k in ("backend", "precision", "ap", "verdict")} for r in gate["rows"]]
        facts = {"name": bundle.name, "path": str(side.bundle), "sha256": _sha256(side.bundle)}
    return {
        "kind": KIND,
        "schema": SCHEMA,
        "session": session,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "bundle": facts,
        "accuracy": {"rows": kept, "people": data.get("people", 0), "kind": data.get("kind", "labelled")},
        "settings": asdict(how),
        "python": side.python,
        "machine": meters.describe(),
        "versions": versions(),
        "interrupted": False,
        "cells": [],
    }


def _outputs(output: Path | None, count: int) -> list[Path | None]:
    """One file, or one beside the other."""
    if output is None:
        return [None] * count
    paths = [output, output.with_suffix(f".against{output.suffix}")][:count]
    for path in paths:
        check_writable(path)
    return list(paths)


def _write(results: list[Result], outputs: Sequence[Path | None]) -> None:
    for result, path in zip(results, outputs, strict=True):
        if path is not None:
            with atomic_write(path) as file:
                file.write(json.dumps(result).encode())


def _verdict(a: Result, b: Result, as_json: bool) -> int:
    verdicts = compare(a, b)
    if as_json:
        print(json.dumps({"summary": summary(verdicts), "rows": to_json(verdicts)}))
    else:
        print("\n".join(lines(a, b, verdicts)))
    return 1 if any(v.ratio.verdict == "slower" for v in verdicts) else 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


COMMAND = Command("Measure end-to-end latency and throughput", "check", add_arguments, run)
