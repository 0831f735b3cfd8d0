"""Workers of one backend, precision and mode, timed in turn."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from ..errors import PosertError
from .meters import Meters
from .paired import per_round, ratio
from .scene import crowd

WHOLE, STAGE, YARDSTICK = 0.2, 0.05, 0.05
"""Seconds for which a part is called again within its turn: the whole and the bare engine, a stage, the yardstick."""
_WARM_UP = 60.0
_ROUNDS, _ROUNDS_IN_TURN = 4, 2
"""Rounds in one launch of the processes. A program is lucky or unlucky with memory and processors once per launch, so a
comparison takes many."""
FEWEST = 6 * _ROUNDS_IN_TURN
"""Rounds that a comparison needs: of throughput half as many are made, one a launch."""
_LONG = ("whole", "bare engine")
_CLEAR, _MOST = 0.04, 3
"""In turn, up to three times as many rounds are made until the interval of the ratio ends within 4 % of its middle."""


@dataclass(frozen=True)
class Side:
    """What is measured: a bundle, in an install of posert.

    Attributes:
        bundle: a `.pose` file.
        python: of the install.
        planted: factor by which "whole" is made slower, to test verdicts.
    """

    bundle: Path
    python: str = sys.executable
    planted: float = 1.0


@dataclass(frozen=True)
class Settings:
    """How it is measured; see the options of `posert bench`."""

    people: tuple[int, ...] = (1, 5, 20)
    rounds: int = 20
    threads: int | None = None
    cpus: tuple[int, ...] | None = None
    flip_test: bool = False


class WorkerError(PosertError):
    """A worker that cannot measure; the message says why."""


class AbsentError(WorkerError):
    """The bundle does not hold this precision."""


class Worker:
    """A process of `posert.runtime.bench.worker`, see there; `open` waits until it is ready."""

    def __init__(self, side: Side, cell: tuple[str, str, str], settings: Settings, scene: Scene) -> None:
        s = settings
        command = [side.python, "-m", "posert.runtime.bench.worker", str(side.bundle), *cell]
        command += ["--image", str(scene.image), "--boxes", scene.boxes, "--people", json.dumps(s.people)]
        command += ["--planted", str(side.planted)] + ["--flip-test"] * s.flip_test
        command += ["--threads", str(s.threads)] if s.threads is not None else []
        command += ["--cpus", json.dumps(s.cpus)] if s.cpus else []
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._errors, text=True, bufsize=1)
        self.parts: list[dict[str, Any]] = []

    def open(self) -> None:
        """Wait until it is ready.

        Raises:
            WorkerError: it cannot run this backend and precision here, or it ended.
        """
        hello = self._read()
        if "error" in hello:
            raise (AbsentError if hello["absent"] else WorkerError)(hello["error"])
        self.parts = hello["parts"]

    def ask(self, **values: Any) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # what it died of is read below
            self._process.stdin.write(json.dumps(values) + "\n")
        return self._read()

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        status = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        raise WorkerError(f"the process that measures ended with status {status}: {said[-1] if said else 'no message'}")


class Scene:
    """The frame that all see, in a file, and its boxes as JSON."""

    def __init__(self, folder: Path, people: int) -> None:
        frame, boxes = crowd(people)
        self.size = frame.shape[1::-1]
        self.image, self.boxes = folder / "frame.jpg", json.dumps(boxes.tolist())
        cv2.imwrite(str(self.image), frame)


def measure(
    sides: Sequence[Side],
    cell: tuple[str, str, str],
    settings: Settings,
    scene: Scene,
    meters: Meters,
    advance: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:
    """One backend, precision and mode on each side, in turn, in several launches of the processes.

    Returns:
        for each side a record: `rows` with the seconds of each call by round, `launches` of the rounds, or `error`.

    Raises:
        Interrupted: by the user; it holds the records so far.
    """
    records: list[dict[str, Any]] = [dict(zip(("backend", "precision", "mode"), cell, strict=True)) for _ in sides]
    throttled = meters.throttled()
    per_launch, total = _ROUNDS_IN_TURN if len(sides) > 1 else _ROUNDS, settings.rounds
    if cell[2] == "throughput":  # a call is of many frames already
        per_launch, total = per_launch // 2, math.ceil(total / 2)
    done = 0
    try:
        while done < total or (done < _MOST * total and not clear(records)):
            rounds = min(per_launch, (total if done < total else _MOST * total) - done)
            with ExitStack() as stack:
                workers = _launch(sides, cell, settings, scene, records, stack)
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


def clear(records: Sequence[dict[str, Any]]) -> bool:
    """Whether the ratio of each side's whole to the first's is known as well as it should be, or never will be.

    Its width alone is asked, not what it says: who went on until something is "slower" would find it.
    """
    measured = [r for r in records if "rows" in r]
    for other in measured[1:]:
        first = measured[0]
        for a, b in zip(first["rows"], other["rows"], strict=True):
            if a["part"] != "whole":
                continue
            try:
                seen = ratio(per_round(a["seconds"]), per_round(b["seconds"]), first["launches"])
            except ValueError:  # too few launches were asked for
                return True
            if max(seen.high / seen.point, seen.point / seen.low) > 1 + _CLEAR:
                return False
    return True


class Interrupted(Exception):
    """The user has had enough; `records` is what there is."""

    def __init__(self, records: list[dict[str, Any]]) -> None:
        super().__init__()
        self.records = records


def _launch(
    sides: Sequence[Side],
    cell: tuple[str, str, str],
    settings: Settings,
    scene: Scene,
    records: list[dict[str, Any]],
    stack: ExitStack,
) -> list[tuple[Worker, dict[str, Any]]]:
    """Start and warm the workers of the sides that work, each with its record."""
    started: list[tuple[Worker, dict[str, Any]]] = []
    for side, record in zip(sides, records, strict=True):
        if "error" not in record:
            started.append((Worker(side, cell, settings, scene), record))  # they get ready side by side
            stack.callback(started[-1][0].close)
    workers: list[tuple[Worker, dict[str, Any]]] = []
    for worker, record in started:
        try:
            worker.open()
            if "rows" not in record:
                record["steady"] = worker.ask(do="warm", seconds=_WARM_UP)["steady"]
            else:  # what a machine has to get used to is over; what a process has takes a call of each part
                worker.ask(do="warm", seconds=0)
        except WorkerError as error:
            record |= {"error": str(error), "absent": isinstance(error, AbsentError)}
            continue
        workers.append((worker, record))
    return workers


def _rounds(
    workers: list[tuple[Worker, dict[str, Any]]], in_turn: bool, rounds: int, launch: int, meters: Meters
) -> None:
    if not workers:
        return
    rng = random.Random(launch)
    # Stages explain one program; a comparison needs the whole and the engine only.
    wanted = [i for i, p in enumerate(workers[0][0].parts) if not in_turn or p["part"] in _LONG]
    for worker, record in workers:
        if "rows" not in record:
            record["rows"] = [{**worker.parts[i], "seconds": [], "joules": []} for i in wanted]
            record |= {"launches": [], "yardstick": [], "moments": []}
    for _ in range(rounds):
        done: list[tuple[dict[str, Any], list[float], float | None]] = []
        for i in rng.sample(range(len(wanted)), len(wanted)):
            for worker, record in rng.sample(workers, len(workers)):
                row = record["rows"][i]
                before = meters.energy()
                answer = worker.ask(do="time", part=wanted[i], burst=WHOLE if row["part"] in _LONG else STAGE)
                after = meters.energy()
                spent = None if before is None or after is None else after - before
                done.append((row, answer["seconds"], spent))
                record["peak_mb"] = max(answer["peak_mb"] or 0, record.get("peak_mb") or 0) or None
        for worker, record in workers:
            record["yardstick"].append(worker.ask(do="yardstick", burst=YARDSTICK)["seconds"])
            record["moments"].append(meters.moment())
            record["launches"].append(launch)
        for row, seconds, spent in done:  # all of a round or nothing
            row["seconds"].append(seconds)
            row["joules"].append(spent)


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
