"""What frame to keypoints costs as people, frames, batches, threads and processes grow; its memory and its start.

    python -m posert.benchmarks.scaling hrnet_w32.pose --output out/scaling.json

Each cell is measured in a process of its own. Finished cells are kept in the output: the same command goes on where it
was stopped, and a cell that failed is a row that says why.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import queue
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from posert.benchmarks.harness.environments import ToolError, call
from posert.benchmarks.harness.script import script
from posert.benchmarks.startup import measure as start_up
from posert.runtime.bench.memory import peak_mb
from posert.runtime.bench.meters import Meters
from posert.runtime.bench.paired import timed, warm
from posert.runtime.bench.scene import crowd
from posert.runtime.bundle.archive import Bundle
from posert.runtime.estimator import PoseEstimator
from posert.runtime.selection import choose, open_session
from posert.runtime.system.environment import versions
from posert.runtime.system.files import atomic_write, check_writable
from posert.runtime.system.progress import track

PEOPLE, BATCHES = (1, 2, 5, 10, 20, 40), (1, 2, 4, 8, 16, 32)
FRAMES = ((360, 640), (720, 1280), (1080, 1920), (2160, 3840))  # height, width
_USUAL = {"people": 5, "height": 1080, "width": 1920}
_FEWEST = 5  # calls, of a slow cell
_PATIENCE = 60.0  # seconds until processes that start together are all ready


@script(goes_on=True)
def main() -> int:
    """Entry point; returns 1 if a cell could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--backend", default="auto", help="one backend (auto)")
    parser.add_argument("--precision", default="auto", help="one precision (auto)")
    parser.add_argument("--seconds", type=float, default=3.0, help="for which a cell is timed once it is warm (3)")
    parser.add_argument("--output", type=Path, default=Path("out/scaling.json"), help="the cells (out/scaling.json)")
    args = parser.parse_args()
    result = sweep(args.bundle, args.backend, args.precision, args.seconds, args.output)
    print("\n".join(table(result)))
    return 1 if any("error" in c for c in result["cells"].values()) else 0


def sweep(path: str, backend: str, precision: str, seconds: float, output: Path) -> dict[str, Any]:
    """Measure the cells that `output` does not hold yet, one at a time; it is written after each."""
    check_writable(output)
    with Bundle(path) as bundle:
        choice, name = choose(bundle, backend, precision), bundle.name
    setting = {"bundle": name, "backend": choice.backend, "precision": choice.precision, "seconds": seconds}
    result = _kept(output, setting)
    result |= {"date": datetime.now(timezone.utc).isoformat(timespec="seconds"), "versions": versions()}
    result["machine"] = Meters().describe()
    common = {"bundle": path, "backend": choice.backend, "precision": choice.precision}
    todo = [(key, function, more) for key, function, more in cells(seconds) if "ms" not in result["cells"].get(key, {})]
    for key, function, more in track(todo, "scaling"):
        try:
            answer = call(sys.executable, f"posert.benchmarks.scaling:{function}", {**common, **more})
            cell = {"peak_mb": answer.peak_mb, **answer.value}
        except ToolError as error:
            cell = {"error": str(error).splitlines()[-1]}
        result["cells"][key] = cell
        with atomic_write(output) as file:
            file.write(json.dumps(result, indent=1).encode())
    return result


def cells(seconds: float) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """All cells: a name, the function here that measures it, and its arguments."""
    for n in PEOPLE:
        yield f"people {n}", "whole", {**_USUAL, "people": n, "seconds": seconds}
    for height, width in FRAMES:
        yield f"frame {width}x{height}", "whole", {**_USUAL, "height": height, "width": width, "seconds": seconds}
    for n in BATCHES:
        yield f"batch {n}", "network", {"batch": n, "seconds": seconds}
    for n in _counts():
        yield f"threads {n}", "whole", {**_USUAL, "threads": n, "seconds": seconds}
    for n in _counts():
        yield f"processes {n}", "processes", {**_USUAL, "count": n, "seconds": seconds}
    for n in (1, 5):
        yield f"start {n}", "start", {"people": n}


def whole(
    bundle: str,
    backend: str,
    precision: str,
    people: int,
    height: int,
    width: int,
    seconds: float,
    threads: int | None = None,
    flip_test: bool = False,
) -> dict[str, Any]:
    """Frame to keypoints, a frame at a time."""
    pose = PoseEstimator(bundle, backend=backend, precision=precision, threads=threads, flip_test=flip_test)
    frame, boxes = crowd(people, height, width)
    return _figures(lambda: pose(frame, boxes), people, seconds)


def network(bundle: str, backend: str, precision: str, batch: int, seconds: float) -> dict[str, Any]:
    """The network alone, on crops that are ready."""
    with Bundle(bundle) as opened:
        session, c = open_session(opened, backend, precision), opened.contract
    crops = np.random.default_rng(0).integers(0, 256, (batch, c.height, c.width, 3)).astype(np.uint8)
    return _figures(lambda: session.infer(crops), batch, seconds)


def processes(
    bundle: str, backend: str, precision: str, people: int, height: int, width: int, count: int, seconds: float
) -> dict[str, Any]:
    """So many processes at the same time, which share the processors: each has its part of the threads."""
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(count), context.Queue()
    threads = max(1, _cores() // count)
    job = (bundle, backend, precision, people, height, width, seconds, threads)
    # Daemons, and a wait with an end: where one is out of memory, the others are not waited for.
    children = [context.Process(target=_one_of_many, args=(barrier, answers, job), daemon=True) for _ in range(count)]
    for child in children:
        child.start()
    try:
        found = [answers.get(timeout=_PATIENCE + 20 * seconds) for _ in children]
    except queue.Empty:
        ended = [child.exitcode for child in children if child.exitcode is not None]
        raise ToolError(f"not all of {count} processes answered; exit statuses of those that ended: {ended}") from None
    for child in children:
        child.join()
    return {
        "ms": float(np.median([one["ms"] for one in found])),
        "per_second": sum(one["per_second"] for one in found),
        "calls": sum(one["calls"] for one in found),
        "peak_mb": sum(one["peak_mb"] for one in found),
        "people": people,
    }


def start(bundle: str, backend: str, precision: str, people: int) -> dict[str, Any]:
    """From the start of a process to its first keypoints, see `posert.benchmarks.startup`."""
    found = start_up(bundle, backend, precision, [people], rounds=5)
    cold, warm_ = found["cold"], found["warm"]
    return {"ms": 1e3 * warm_["total"], "cold_ms": 1e3 * cold["total"], "peak_mb": warm_["peak_mb"], "people": people}


def table(result: dict[str, Any]) -> list[str]:
    """Rows for people: time of a call, per person, people per second, peak of resident memory."""
    cpu = result["machine"]["cpu"]
    lines = [
        f"{result['bundle']}, {result['backend']} {result['precision']}, {result['date']}, {cpu['name']}, "
        f"{cpu['cores']} cores, load before: {result['machine']['load']}",
        f"5 people in 1920x1080 where a row says nothing else; {result['seconds']:g} s each, in a process of its own",
        "",
        f"{'':22}{'p50 ms':>10}{'p95 ms':>10}{'ms/person':>11}{'people/s':>10}{'peak MB':>9}",
    ]
    for key, cell in result["cells"].items():
        if "error" in cell:
            lines.append(f"{key:22}not measured: {cell['error']}")
        elif key.startswith("start"):
            note = f"to the first keypoints, warm cache; {cell['cold_ms']:.0f} ms with an empty one"
            lines.append(f"{key + ' people':22}{cell['ms']:10.0f}{'':31}{cell['peak_mb']:9.0f}  {note}")
        else:
            p95 = f"{cell['p95_ms']:10.2f}" if "p95_ms" in cell else f"{'':10}"
            per = cell["ms"] / cell["people"]
            lines.append(f"{key:22}{cell['ms']:10.2f}{p95}{per:11.2f}{cell['per_second']:10.1f}{cell['peak_mb']:9.0f}")
    return lines


def _figures(work: Callable[[], object], people: int, seconds: float) -> dict[str, Any]:
    warm({"": work}, 2 * seconds)
    start, times = time.perf_counter(), list[float]()
    while len(times) < _FEWEST or time.perf_counter() - start < seconds:
        times += timed(work)
    p50, p95 = np.percentile(times, [50, 95]) * 1e3
    return {
        "ms": float(p50),
        "p95_ms": float(p95),
        "per_second": people / float(np.mean(times)),
        "calls": len(times),
        "people": people,
    }


def _one_of_many(barrier: Any, answers: Any, job: tuple[Any, ...]) -> None:
    """Warm, wait for the others, and run as long as they do."""
    bundle, backend, precision, people, height, width, seconds, threads = job
    pose = PoseEstimator(bundle, backend=backend, precision=precision, threads=threads)
    frame, boxes = crowd(people, height, width)
    warm({"": lambda: pose(frame, boxes)}, 2 * seconds)
    barrier.wait(_PATIENCE)
    times: list[float] = []
    begin = time.perf_counter()
    while not times or time.perf_counter() - begin < seconds:
        times += timed(lambda: pose(frame, boxes))
    spent = time.perf_counter() - begin
    figures = {"ms": 1e3 * float(np.median(times)), "per_second": people * len(times) / spent, "calls": len(times)}
    answers.put({**figures, "peak_mb": peak_mb() or math.nan})


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _counts() -> list[int]:
    """1, 2, 4, ... and all processors."""
    most = _cores()
    return sorted({*(2**i for i in range(most.bit_length())), most} & set(range(1, most + 1)))


def _kept(output: Path, setting: dict[str, Any]) -> dict[str, Any]:
    """What an earlier run of the same setting measured."""
    try:
        seen = json.loads(output.read_text())
    except (OSError, ValueError):
        seen = {}
    same = isinstance(seen, dict) and all(seen.get(k) == v for k, v in setting.items())
    return {**setting, "cells": seen["cells"] if same else {}}


if __name__ == "__main__":
    sys.exit(main())
