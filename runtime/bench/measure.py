"""Time workers of one backend, precision and mode in turn."""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import PosertError
from ..system.process import JsonProcess, ProcessError
from .meters import Meters
from .scene import FRAME, boxes_of
from .stages import END_TO_END, INFERENCE, LEGACY_NAMES
from .statistics import per_round, ratio

Record = dict[str, Any]
Cell = tuple[str, str, str]
"""Backend, precision and mode."""

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
    """What is measured: a `.pose` file, in the install of posert that has this Python interpreter."""

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


class Worker(JsonProcess):
    """A process of `posert.runtime.bench.worker`; `open` waits until it is ready.

    Attributes:
        stages: name and people of each stage, with its index in the worker and the frames of one call.
    """

    def __init__(self, side: Side, cell: Cell, settings: Settings) -> None:
        s = settings
        command = [side.python, "-c", _LAUNCH, ",".join(_WORKERS), str(side.bundle), *cell]
        command += ["--image", str(FRAME), "--boxes", json.dumps(boxes_of(max(s.people)).tolist())]
        command += ["--people", json.dumps(s.people)] + ["--flip-test"] * s.flip_test
        command += ["--threads", str(s.threads)] if s.threads is not None else []
        command += ["--cpus", json.dumps(s.cpus)] if s.cpus else []
        super().__init__(command)
        self.stages: dict[tuple[str, int], tuple[int, int]] = {}

    def open(self) -> None:
        """Wait until it is ready; PosertError where it cannot run backend and precision, ProcessError if it ended."""
        hello = self.read()
        if "error" in hello:
            raise PosertError(hello["error"])
        for i, p in enumerate(hello["parts"]):
            self.stages[LEGACY_NAMES.get(p["part"], p["part"]), p["people"]] = i, p["frames"]


def measure(sides: Sequence[Side], cell: Cell, settings: Settings, meters: Meters, records: Sequence[Record]) -> None:
    """Measure one backend, precision and mode on each side, in turn, in several launches of the processes.

    The record of each side gets `rows` with the seconds of each call by round, `launches` of the rounds, or `error`;
    after an interrupt it holds the rounds that were complete.
    """
    throttled = meters.throttled()
    per_launch, total = _ROUNDS_IN_TURN if len(sides) > 1 else _ROUNDS, settings.rounds
    if cell[2] == "throughput":  # one call is many frames already
        per_launch, total = per_launch // 2, math.ceil(total / 2)
    done = 0
    while done < total or (done < _MAX_FACTOR * total and not precise_enough(records)):
        rounds = min(per_launch, (total if done < total else _MAX_FACTOR * total) - done)
        with ExitStack() as stack:
            workers = _launch(sides, cell, settings, records, stack)
            if not workers:
                break
            _rounds(workers, rounds, math.ceil(done / per_launch), meters)
        done += rounds
    now = meters.throttled()
    for record in records:
        record["throttled"] = {name: count - throttled.get(name, 0) for name, count in now.items()}


def precise_enough(records: Sequence[Record]) -> bool:
    """Whether the interval of every end-to-end ratio to the first side is narrow enough, or cannot become so.

    Only its width counts, not the verdict: repeating until something is "slower" would find it by chance.
    """
    measured = [r for r in records if "rows" in r]
    for a, b in (pair for other in measured[1:] for pair in zip(measured[0]["rows"], other["rows"], strict=True)):
        if a["stage"] != END_TO_END:
            continue
        try:
            seen = ratio(per_round(a["seconds"]), per_round(b["seconds"]), measured[0]["launches"])
        except ValueError:  # too few launches were asked for
            return True
        if max(seen.high / seen.point, seen.point / seen.low) > 1 + _PRECISE:
            return False
    return True


def _launch(
    sides: Sequence[Side], cell: Cell, settings: Settings, records: Sequence[Record], stack: ExitStack
) -> list[tuple[Worker, Record]]:
    """Start and warm the workers of the sides that work, each with its record."""
    started = [  # they get ready side by side
        (stack.enter_context(closing(Worker(side, cell, settings))), record)
        for side, record in zip(sides, records, strict=True)
        if "error" not in record
    ]
    for worker, record in started:
        try:
            worker.open()
            # The first launch warms the machine up; in later ones a process needs one call of each stage.
            steady = worker.ask(do="warm", seconds=0 if "rows" in record else _WARM_UP)["steady"]
        except PosertError as error:
            record["error"] = f"its process {error}" if isinstance(error, ProcessError) else str(error)
            continue
        if "rows" not in record:
            # Stages explain one program; a comparison needs end to end and inference only.
            wanted = [
                (*key, frames) for key, (_, frames) in worker.stages.items() if len(sides) == 1 or key[0] in _LONG
            ]
            rows = [{"stage": s, "people": n, "frames": f, "seconds": [], "joules": []} for s, n, f in wanted]
            record |= {"rows": rows, "steady": steady, "launches": [], "yardstick": [], "moments": []}
    return [(worker, record) for worker, record in started if "error" not in record]


def _rounds(workers: list[tuple[Worker, Record]], rounds: int, launch: int, meters: Meters) -> None:
    """Time every row of every record in each round."""
    rng = random.Random(launch)
    for _ in range(rounds):
        done: list[tuple[Record, list[float], float | None]] = []
        count = len(workers[0][1]["rows"])
        for i in rng.sample(range(count), count):
            for worker, record in rng.sample(workers, len(workers)):
                row = record["rows"][i]
                burst = LONG_BURST if row["stage"] in _LONG else STAGE_BURST
                before = meters.energy()
                answer = worker.ask(do="time", part=worker.stages[row["stage"], row["people"]][0], burst=burst)
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
