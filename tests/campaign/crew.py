"""Runs the cases of a part in worker processes, notes each in a journal, and replaces workers that a case ended."""

from __future__ import annotations

import itertools
import os
import queue
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from posert.runtime.system.journal import Journal
from posert.runtime.system.process import JsonProcess, ProcessError
from posert.tests.campaign.case import LOG, PARTS, Outcome, Part

HANG_S: float | None = None
"""Seconds after which a case hangs, where it is not the part that says so: for tests of the campaign."""
_OPENING_S = 300.0  # imports, and the files that all cases share, on a busy machine
_MEMORY_GB = 6.0  # the worker itself reports what is above the limit, unless it would take the machine first


@dataclass
class Tally:
    """The outcomes of a part."""

    part: Part
    seconds: float = 0.0
    outcomes: dict[int, Outcome] = field(default_factory=dict)

    def count(self, result: str) -> dict[str, int]:
        """Cases with this result by kind, the most frequent first."""
        kinds: dict[str, int] = {}
        for outcome in self.outcomes.values():
            if outcome.result == result:
                kinds[outcome.kind] = kinds.get(outcome.kind, 0) + 1
        return dict(sorted(kinds.items(), key=lambda kind: -kind[1]))

    def defects(self) -> dict[int, Outcome]:
        """The cases that broke the rule, by their number."""
        return {i: o for i, o in sorted(self.outcomes.items()) if o.result == "defect"}


def run_part(
    name: str,
    cases: range,
    *,
    seed: int,
    folder: Path,
    workers: int = 1,
    plant: str = "-",
    tell: Callable[[int, Outcome], None] = lambda index, outcome: None,
) -> Tally:
    """Run cases of a part. What the journal in `folder` has of this part and seed is not run again.

    Args:
        name: of the part.
        cases: their numbers.
        seed: of the whole campaign.
        folder: for the journal and the workers' files, which are removed.
        workers: processes that run cases at a time.
        plant: a defect of `planted`, which every worker puts into posert.
        tell: called with each case that was run, in any order.
    """
    part = PARTS.load(name)
    tally, lock = Tally(part), threading.Lock()
    key = {"part": name, "seed": seed, "plant": plant}
    with Journal(folder / f"{name}.journal", key) as journal:
        for record in journal.records:
            if "seconds" in record:
                tally.seconds += record["seconds"]
            elif record["index"] in cases:
                tally.outcomes[record["index"]] = Outcome(**{k: v for k, v in record.items() if k != "index"})
        todo: queue.SimpleQueue[int] = queue.SimpleQueue()
        for index in cases:
            if index not in tally.outcomes:
                todo.put(index)
        start, errors = time.monotonic(), list[BaseException]()

        def serve(number: int) -> None:
            try:
                for index, outcome in _outcomes(part, seed, folder / f"{name}.{number}", plant, todo):
                    with lock:
                        tally.outcomes[index] = outcome
                        journal.add({"index": index, **outcome.to_json()})
                        tell(index, outcome)
            except BaseException as error:  # raised again in the main thread
                errors.append(error)

        threads = [threading.Thread(target=serve, args=(n,)) for n in range(min(workers, todo.qsize()))]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        finally:
            while not todo.empty():  # an interrupt: the workers end with the case that they have
                todo.get()
            seconds = time.monotonic() - start
            tally.seconds += seconds
            journal.add({"seconds": seconds})
        if errors:
            raise errors[0]
    return tally


def _outcomes(
    part: Part, seed: int, folder: Path, plant: str, todo: queue.SimpleQueue[int]
) -> Iterator[tuple[int, Outcome]]:
    """The cases that one worker runs."""
    process: JsonProcess | None = None
    lives = itertools.count()
    own = folder
    try:
        while True:
            try:
                index = todo.get_nowait()
            except queue.Empty:
                return
            if process is None:
                own = folder / str(next(lives))  # one that hangs may still write into its folder
                process = _start(part, seed, own, plant)
            try:
                yield index, Outcome(**process.ask(index=index))
            except ProcessError as error:
                yield index, Outcome("defect", _kind(str(error)), detail=f"{error}\n{_log(own)}"[:2000])
                process.close()
                process = None
                shutil.rmtree(own, ignore_errors=True)
    finally:
        if process is not None:
            process.close()
        shutil.rmtree(folder, ignore_errors=True)


def _start(part: Part, seed: int, folder: Path, plant: str) -> JsonProcess:
    folder.mkdir(parents=True, exist_ok=True)
    # One core each, so that several workers do not wait for one another.
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OPENCV_LOG_LEVEL": "SILENT"}
    command = [sys.executable, "-m", "posert.tests.campaign.worker", part.name, str(seed), str(folder), plant]
    opening = JsonProcess(command, env=env, patience=_OPENING_S, memory_gb=_MEMORY_GB)
    try:
        opening.read()
    except ProcessError as error:
        raise RuntimeError(f"the part {part.name} does not open: {error}\n{_log(folder)}") from error
    opening.patience = min(part.limit_s, HANG_S or part.limit_s)
    return opening


def _log(folder: Path) -> str:
    """What a worker's libraries printed, and where it hung."""
    path = folder / LOG
    return path.read_text(errors="replace") if path.exists() else ""


def _kind(message: str) -> str:
    if "did not answer" in message:
        return "hang"
    return "memory" if "of memory" in message else f"crash: {message.split(':')[0]}"
