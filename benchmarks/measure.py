"""Workers of one backend, precision and mode, timed in turn."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from ..runtime.errors import PosertError
from .meters import Meters
from .paired import orders
from .workload import crowd

WHOLE, STAGE, YARDSTICK = 0.2, 0.05, 0.05
"""Seconds for which a part is called again within its turn: the whole and the bare engine, a stage, the yardstick."""
_WARM_UP = 20.0


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
    """A process of `posert.benchmarks.worker`, see there.

    Raises:
        WorkerError: it cannot run this backend and precision here, or it ended.
    """

    def __init__(self, side: Side, cell: tuple[str, str, str], settings: Settings, scene: Scene) -> None:
        s = settings
        command = [side.python, "-m", "posert.benchmarks.worker", str(side.bundle), *cell]
        command += ["--image", str(scene.image), "--boxes", scene.boxes, "--people", json.dumps(s.people)]
        command += ["--planted", str(side.planted)] + ["--flip-test"] * s.flip_test
        command += ["--threads", str(s.threads)] if s.threads is not None else []
        command += ["--cpus", json.dumps(s.cpus)] if s.cpus else []
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._errors, text=True, bufsize=1)
        try:
            hello = self._read()
            if "error" in hello:
                raise (AbsentError if hello["absent"] else WorkerError)(hello["error"])
        except BaseException:
            self.close()
            raise
        self.parts: list[dict[str, Any]] = hello["parts"]

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
    """One backend, precision and mode on each side, in turn.

    Returns:
        for each side a record: `rows` with the seconds of each call by round, or `error`. What an interrupt leaves is
        in the records of `Interrupted`.
    """
    opened: list[Worker | None] = []
    records: list[dict[str, Any]] = []
    for side in sides:
        record: dict[str, Any] = dict(zip(("backend", "precision", "mode"), cell, strict=True))
        try:
            opened.append(Worker(side, cell, settings, scene))
        except WorkerError as error:
            opened.append(None)
            record |= {"error": str(error), "absent": isinstance(error, AbsentError)}
        records.append(record)
    workers = [(w, r) for w, r in zip(opened, records, strict=True) if w is not None]
    try:
        _rounds(workers, len(sides) > 1, settings.rounds, meters, advance)
    except WorkerError as error:
        for _, record in workers:
            record["error"] = str(error)
    except KeyboardInterrupt:
        raise Interrupted(records) from None
    finally:
        for worker, _ in workers:
            worker.close()
    return records


class Interrupted(Exception):
    """The user has had enough; `records` is what there is."""

    def __init__(self, records: list[dict[str, Any]]) -> None:
        super().__init__()
        self.records = [r for r in records if "error" in r or r.get("yardstick")]


def _rounds(
    workers: list[tuple[Worker, dict[str, Any]]],
    in_turn: bool,
    rounds: int,
    meters: Meters,
    advance: Callable[[], None],
) -> None:
    if not workers:
        return
    throttled, rng = meters.throttled(), random.Random(1)
    # Stages explain one program; a comparison needs the whole and the engine only.
    wanted = [i for i, p in enumerate(workers[0][0].parts) if not in_turn or p["part"] in ("whole", "bare engine")]
    for worker, record in workers:
        record["steady"] = worker.ask(do="warm", seconds=_WARM_UP)["steady"]
        record["rows"] = [{**worker.parts[i], "seconds": [], "joules": []} for i in wanted]
        record |= {"yardstick": [], "moments": []}
    for order in orders([str(i) for i in range(len(wanted))], rounds):
        done: list[dict[str, Any]] = []
        for i in map(int, order):
            for worker, record in rng.sample(workers, len(workers)):
                row = record["rows"][i]
                before = meters.energy()
                burst = WHOLE if row["part"] in ("whole", "bare engine") else STAGE
                answer = worker.ask(do="time", part=wanted[i], burst=burst)
                after = meters.energy()
                spent = None if before is None or after is None else after - before
                done.append({"row": row, "seconds": answer["seconds"], "joules": spent})
                record["peak_mb"] = answer["peak_mb"]
        for worker, record in workers:
            record["yardstick"].append(worker.ask(do="yardstick", burst=YARDSTICK)["seconds"])
            record["moments"].append(meters.moment())
        for one in done:  # all of a round or nothing
            one["row"]["seconds"].append(one["seconds"])
            one["row"]["joules"].append(one["joules"])
        advance()
    now = meters.throttled()
    for _, record in workers:
        record["throttled"] = {name: count - throttled.get(name, 0) for name, count in now.items()}


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
