"""Time workers of one backend, precision and mode in turn."""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .meters import Meters
from .process import JsonProcess, ProcessError
from .scene import FRAME, boxes_of
from .stages import END_TO_END, INFERENCE, LEGACY_NAMES
from .statistics import per_round, ratio

Record = dict[str, Any]

LONG_BURST, STAGE_BURST, YARDSTICK_BURST = 0.2, 0.05, 0.05
"""Seconds for which a call is repeated within its turn: end to end and inference only, a stage, the yardstick."""
_WARM_UP = 60.0
_ROUNDS, _ROUNDS_IN_TURN = 4, 2
"""Rounds in one launch of the processes. A program is lucky or unlucky with memory and processors once per launch, so a
comparison takes many launches."""
MIN_ROUNDS = 6 * _ROUNDS_IN_TURN
"""Rounds a comparison needs; of throughput half as many are made, one a launch."""
_LONG = (END_TO_END, INFERENCE)
_PRECISE, _MAX_FACTOR = 0.04, 3
"""In turn, up to three times as many rounds are made until the ratio's interval ends within 4 % of its point."""

# The worker's module in this version, and in 0.1.0-dev.
_WORKERS = "posert.runtime.bench.worker", "posert.benchmarks.harness.worker"
_LAUNCH = """
import importlib.util, runpy, sys
def found(name):
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None
worker = next(filter(found, sys.argv.pop(1).split(",")), None)
if worker is None:
    sys.exit(f"{sys.executable} has no posert, or one without `posert bench`: pip install posert there")
runpy.run_module(worker, run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class Side:
    """What is measured: a bundle, in an install of posert.

    Attributes:
        bundle: a `.pose` file.
        python: the install's interpreter.
    """

    bundle: Path
    python: str = sys.executable


@dataclass(frozen=True)
class Settings:
    """How it is measured; see the options of `posert bench`."""

    people: tuple[int, ...] = (1, 5, 20)
    rounds: int = 20
    threads: int | None = None
    cpus: tuple[int, ...] | None = None
    flip_test: bool = False


class WorkerError(ProcessError):
    """A worker cannot measure; the message says why."""


class AbsentError(WorkerError):
    """The bundle does not hold this precision."""


class Worker(JsonProcess):
    """A process of `posert.runtime.bench.worker`; `open` waits until it is ready.

    Attributes:
        stages: name and people of each stage, with its index in the worker and the frames of one call.
    """

    def __init__(self, side: Side, cell: tuple[str, str, str], settings: Settings) -> None:
        s = settings
        command = [side.python, "-c", _LAUNCH, ",".join(_WORKERS), str(side.bundle), *cell]
        command += ["--image", str(FRAME), "--boxes", json.dumps(boxes_of(max(s.people)).tolist())]
        command += ["--people", json.dumps(s.people)] + ["--flip-test"] * s.flip_test
        command += ["--threads", str(s.threads)] if s.threads is not None else []
        command += ["--cpus", json.dumps(s.cpus)] if s.cpus else []
        super().__init__(command)
        self.stages: dict[tuple[str, int], tuple[int, int]] = {}

    def open(self) -> None:
        """Wait until it is ready.

        Raises:
            ProcessError: it cannot run this backend and precision here, or it ended.
        """
        hello = self.read()
        if "error" in hello:
            raise (AbsentError if hello["absent"] else WorkerError)(hello["error"])
        self.stages = {
            (LEGACY_NAMES.get(p["part"], p["part"]), p["people"]): (i, p["frames"])
            for i, p in enumerate(hello["parts"])
        }


class Interrupted(Exception):
    """The user has interrupted; `records` holds what was measured."""

    def __init__(self, records: list[Record]) -> None:
        super().__init__()
        self.records = records


def measure(
    sides: Sequence[Side],
    cell: tuple[str, str, str],
    settings: Settings,
    meters: Meters,
    advance: Callable[[], None] = lambda: None,
) -> list[Record]:
    """Measure one backend, precision and mode on each side, in turn, in several launches of the processes.

    Returns:
        for each side a record: `rows` with the seconds of each call by round, `launches` of the rounds, or `error`.

    Raises:
        Interrupted: by the user; it holds the records so far.
    """
    records: list[Record] = [dict(zip(("backend", "precision", "mode"), cell, strict=True)) for _ in sides]
    throttled = meters.throttled()
    per_launch, total = _ROUNDS_IN_TURN if len(sides) > 1 else _ROUNDS, settings.rounds
    if cell[2] == "throughput":  # one call is many frames already
        per_launch, total = per_launch // 2, math.ceil(total / 2)
    done = 0
    try:
        while done < total or (done < _MAX_FACTOR * total and not precise_enough(records)):
            rounds = min(per_launch, (total if done < total else _MAX_FACTOR * total) - done)
            with ExitStack() as stack:
                workers = _launch(sides, cell, settings, records, stack)
                _rounds(workers, len(sides) > 1, rounds, math.ceil(done / per_launch), meters)
            done += rounds
            advance()
            if not workers:
                break
    except KeyboardInterrupt:
        raise Interrupted(records) from None
    now = meters.throttled()
    for record in records:
        record["throttled"] = {name: count - throttled.get(name, 0) for name, count in now.items()}
    return records


def precise_enough(records: Sequence[Record]) -> bool:
    """Whether the interval of every end-to-end ratio to the first side is narrow enough, or cannot become so.

    Only its width counts, not the verdict: repeating until something is "slower" would find it by chance.
    """
    measured = [r for r in records if "rows" in r]
    for other in measured[1:]:
        first = measured[0]
        for a, b in zip(first["rows"], other["rows"], strict=True):
            if a["stage"] != END_TO_END:
                continue
            try:
                seen = ratio(per_round(a["seconds"]), per_round(b["seconds"]), first["launches"])
            except ValueError:  # too few launches were asked for
                return True
            if max(seen.high / seen.point, seen.point / seen.low) > 1 + _PRECISE:
                return False
    return True


def _launch(
    sides: Sequence[Side],
    cell: tuple[str, str, str],
    settings: Settings,
    records: list[Record],
    stack: ExitStack,
) -> list[tuple[Worker, Record]]:
    """Start and warm the workers of the sides that work, each with its record."""
    started: list[tuple[Worker, Record]] = []
    for side, record in zip(sides, records, strict=True):
        if "error" not in record:
            started.append((Worker(side, cell, settings), record))  # they get ready side by side
            stack.callback(started[-1][0].close)
    workers: list[tuple[Worker, Record]] = []
    for worker, record in started:
        try:
            worker.open()
            # The first launch warms the machine up; in later ones a process needs one call of each stage.
            if "rows" not in record:
                record["steady"] = worker.ask(do="warm", seconds=_WARM_UP)["steady"]
            else:
                worker.ask(do="warm", seconds=0)
        except ProcessError as error:
            reason = str(error) if isinstance(error, WorkerError) else f"its process {error}"
            record |= {"error": reason, "absent": isinstance(error, AbsentError)}
            continue
        workers.append((worker, record))
    return workers


def _rounds(workers: list[tuple[Worker, Record]], in_turn: bool, rounds: int, launch: int, meters: Meters) -> None:
    if not workers:
        return
    rng = random.Random(launch)
    # Stages explain one program; a comparison needs end to end and inference only.
    wanted = [key for key in workers[0][0].stages if not in_turn or key[0] in _LONG]
    for worker, record in workers:
        if "rows" not in record:
            record["rows"] = [
                {"stage": name, "people": people, "frames": worker.stages[name, people][1], "seconds": [], "joules": []}
                for name, people in wanted
            ]
            record |= {"launches": [], "yardstick": [], "moments": []}
    for _ in range(rounds):
        done: list[tuple[Record, list[float], float | None]] = []
        for i in rng.sample(range(len(wanted)), len(wanted)):
            for worker, record in rng.sample(workers, len(workers)):
                row = record["rows"][i]
                before = meters.energy()
                burst = LONG_BURST if row["stage"] in _LONG else STAGE_BURST
                answer = worker.ask(do="time", part=worker.stages[wanted[i]][0], burst=burst)
                after = meters.energy()
                spent = None if before is None or after is None else after - before
                done.append((row, answer["seconds"], spent))
                record["peak_mb"] = max(answer["peak_mb"] or 0, record.get("peak_mb") or 0) or None
        for worker, record in workers:
            record["yardstick"].append(worker.ask(do="yardstick", burst=YARDSTICK_BURST)["seconds"])
            record["moments"].append(meters.moment())
            record["launches"].append(launch)
        for row, seconds, spent in done:  # a round is kept as a whole or not at all
            row["seconds"].append(seconds)
            row["joules"].append(spent)
