"""Contenders in turn: opened, compared with the reference, timed in rounds; what they did is kept after each."""

from __future__ import annotations

import hashlib
import json
import random
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.bench.paired import per_round, ratio
from ...runtime.system.environment import machine, versions
from ...runtime.system.files import atomic_write
from ..harness.environments import ToolError
from .materials import PEOPLE, agreement, prepare
from .process import Gone, Process
from .roster import Contender

Result = dict[str, Any]
BURST = 0.3
"""Seconds for which a contender is called again within its turn."""
_WARM_UP = 1  # rounds, after all have found the joints of 25 people


def compete(
    bundle: Path,
    output: Path,
    contenders: Sequence[Contender],
    people: Sequence[int],
    rounds: int,
    weights: str | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Result:
    """Time all contenders, and write what is known to `output` after every round.

    A contest that was stopped goes on where it was, if `output` is of the same bundle, machine and versions.

    Args:
        bundle: a `.pose` file.
        output: JSON file.
        contenders: who takes part.
        people: numbers of people per frame that are timed.
        rounds: how many there are in all, for each number.
        weights: see `materials.prepare`.
        tell: is told what is being done.

    Raises:
        PosertError: the bundle cannot be used. What goes wrong with a contender is in its row.
    """
    result = _begin(bundle, output, people)
    result["rows"] = {c.name: result["rows"].get(c.name, {}) for c in contenders}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        tell("preparing the frame, the weights and the graph")
        begun = min(map(len, result["rounds"].values()))
        if begun:
            tell(f"going on after {begun} rounds")
        given, reference = prepare(bundle, weights, folder, max(people))
        open_ones: dict[str, Process] = {}

        def end(name: str) -> None:
            memory = open_ones.pop(name).close()
            if memory is not None:
                result["rows"][name]["peak_mb"] = round(memory, 1)

        try:
            for i, c in enumerate(contenders):
                tell(f"opening {c.name}")
                row = result["rows"][c.name]
                row.pop("missing", None)
                try:
                    process = Process(c.python(), c.module, given | c.options, folder / str(i))
                    open_ones[c.name] = process
                    row["does"] = process.does
                    joints = process.ask(do="joints", people=PEOPLE)
                    row["agreement"] = agreement(reference, given["sigmas"], joints["xy"], joints["score"])
                except (Gone, ToolError) as error:
                    _missing(result, c.name, error, open_ones, tell)
            for number in range(-_WARM_UP, rounds):
                _round(result, number, open_ones, tell)
                if number >= 0:
                    write(output, result)
            result["complete"] = True
        finally:
            for name in list(open_ones):
                end(name)
            if result["complete"] or any(result["rounds"].values()):  # else an older file is worth more
                write(output, result)
    return result | {"summary": summary(result)}


def _begin(bundle: Path, output: Path, people: Sequence[int]) -> Result:
    """An empty result, or the stopped one that lies there."""
    result: Result = {
        "bundle": bundle.name,
        "sha256": hashlib.sha256(bundle.read_bytes()).hexdigest() if bundle.is_file() else None,
        "machine": machine(),
        "versions": versions(),
        "people": list(people),
    }
    try:
        before = json.loads(output.read_text())
        if not before["complete"] and all(before[key] == value for key, value in result.items()):
            return dict(before)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return result | {"complete": False, "rows": {}, "rounds": {str(n): [] for n in people}}


def _round(result: Result, number: int, processes: dict[str, Process], tell: Callable[[str], None]) -> None:
    """One turn of each contender for each number of people; rounds below zero only warm up."""
    for n, seen in result["rounds"].items():
        if 0 <= number < len(seen):
            continue  # from before it was stopped
        times: dict[str, list[float]] = {}
        for name in random.Random(f"{number} {n}").sample(list(processes), len(processes)):
            tell(f"round {max(0, number + 1)}, {n} people, {name}")
            try:
                times[name] = processes[name].ask(do="time", people=int(n), burst=BURST)["seconds"]
            except Gone as error:
                _missing(result, name, error, processes, tell)
        if number >= 0:
            seen.append(times)


def _missing(
    result: Result, name: str, error: Exception, processes: dict[str, Process], tell: Callable[[str], None]
) -> None:
    """A contender that cannot go on is a row that says why; what it did so far stays."""
    tell(f"{name}: {error}")
    result["rows"][name]["missing"] = str(error)
    process = processes.pop(name, None)
    if process is not None:
        process.close()


def write(output: Path, result: Mapping[str, Any]) -> None:
    """The result with its summary."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(output) as file:
        file.write(json.dumps({**result, "summary": summary(result)}, indent=1).encode())


def summary(result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By number of people and row: milliseconds per person, and how many times as long as each row of ours.

    A ratio is `[median, low, high]` over the rounds that both took part in, of which there must be 6.
    """
    found: dict[str, dict[str, Any]] = {}
    for n, rounds in result["rounds"].items():
        rows = found.setdefault(n, {})
        for name in result["rows"]:
            mine = [r[name] for r in rounds if name in r]
            if not mine:
                continue
            calls = 1e3 * np.concatenate([np.asarray(one) for one in mine]) / int(n)
            ours = [other for other in result["rows"] if other.startswith("posert") and other != name]
            rows[name] = {
                "ms_per_person": float(np.median(1e3 * per_round(mine) / int(n))),
                "p95_ms_per_person": float(np.quantile(calls, 0.95)),
                "rounds": len(mine),
                "times_ours": {other: r for other in ours if (r := _times(rounds, other, name)) is not None},
            }
    return found


def _times(rounds: Sequence[Mapping[str, list[float]]], a: str, b: str) -> list[float] | None:
    both = [r for r in rounds if a in r and b in r]
    if len(both) < 6:
        return None
    seen = ratio(per_round([r[a] for r in both]), per_round([r[b] for r in both]))
    return [seen.point, seen.low, seen.high]


def progress(text: str) -> None:
    """A line on standard error, written over where that is a terminal."""
    end = "\x1b[K\r" if sys.stderr.isatty() else "\n"
    print(text, end=end, file=sys.stderr, flush=True)
