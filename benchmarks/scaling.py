"""Cost of frame to keypoints as people, frames, batches, threads and processes grow; memory; and the start.

    python -m posert.benchmarks.scaling hrnet_w32.pose --output out/scaling.jsonl

Each cell is measured in a process of its own; one that failed is a row that says why.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from posert.benchmarks.child import ToolError, call, requests
from posert.benchmarks.child import start as start_process
from posert.benchmarks.cold_start import STAGES
from posert.benchmarks.cold_start import measure as measure_start
from posert.benchmarks.script import digest, open_journal, parser, run
from posert.runtime.bench.meters import Meters
from posert.runtime.bench.scene import crowd
from posert.runtime.bench.timing import timed, warm
from posert.runtime.bundle.archive import Bundle
from posert.runtime.estimator import PoseEstimator
from posert.runtime.selection import open_session, select
from posert.runtime.system.machine import versions
from posert.runtime.system.memory import peak_mb
from posert.runtime.system.process import ProcessError
from posert.runtime.system.progress import track

PEOPLE, BATCHES = (1, 2, 5, 10, 20, 40), (1, 2, 4, 8, 16, 32)
FRAMES = ((360, 640), (720, 1280), (1080, 1920), (2160, 3840))  # height, width
_MIN_CALLS = 5  # of a slow cell


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns 1 if a cell could not be measured."""
    arguments = parser(__doc__, "out/scaling.jsonl")
    arguments.add_argument("bundle")
    arguments.add_argument("--backend", default="auto", help="one backend (auto)")
    arguments.add_argument("--precision", default="auto", help="one precision (auto)")
    arguments.add_argument("--seconds", type=float, default=3.0, help="for which a cell is timed once it is warm (3)")
    return run(arguments, _work, argv)


def _work(args: argparse.Namespace) -> int:
    setting, measured = sweep(args.bundle, args.backend, args.precision, args.seconds, args.output)
    print("\n".join(table(setting, measured)))
    return 1 if any("error" in cell for cell in measured.values()) else 0


def sweep(
    path: str, backend: str, precision: str, seconds: float, output: Path
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Measure the cells that `output` lacks; returns the setting and all cells by name."""
    with Bundle(path) as bundle:
        selected, name = select(bundle, backend, precision), bundle.name
    setting = {"bundle": name, "backend": selected.backend, "precision": selected.precision, "seconds": seconds}
    journal = open_journal(output, "scaling", **setting, sha256=digest(path), versions=versions())
    done = {r["cell"]: r for r in journal.records}
    machine = Meters().describe()
    common = {"bundle": path, "backend": selected.backend, "precision": selected.precision}
    todo = [cell for cell in cells(seconds) if "ms" not in done.get(cell[0], {})]
    for key, function, more in track(todo, "scaling"):
        try:
            answer = call(sys.executable, f"posert.benchmarks.scaling:{function}", {**common, **more})
            figures = {"peak_mb": answer.peak_mb, **answer.value}
        except ToolError as error:
            figures = {"error": str(error).splitlines()[-1]}
        done[key] = {"cell": key, **figures}
        journal.add(done[key])
    return setting | {"machine": machine}, {key: done[key] for key, *_ in cells(seconds)}


def cells(seconds: float) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """All cells: a name, the function here that measures it, and its arguments."""
    counts = sorted({*(2**i for i in range(cores().bit_length()) if 2**i <= cores()), cores()})
    for n in PEOPLE:
        yield f"people {n}", "end_to_end", {"people": n, "seconds": seconds}
    for height, width in FRAMES:
        yield f"frame {width}x{height}", "end_to_end", {"height": height, "width": width, "seconds": seconds}
    for n in BATCHES:
        yield f"batch {n}", "network", {"batch": n, "seconds": seconds}
    for n in counts:
        yield f"threads {n}", "end_to_end", {"threads": n, "seconds": seconds}
    for n in counts:
        yield f"processes {n}", "processes", {"count": n, "seconds": seconds}
    for n in (1, 5):
        yield f"start {n}", "start", {"people": n}


def table(setting: Mapping[str, Any], measured: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A row for each cell: time of a call and per person, people per second, peak memory; then the start."""
    m = setting["machine"]
    lines = [
        f"{setting['bundle']}, {setting['backend']} {setting['precision']}, {m['cpu']['name']}, {m['cpu']['cores']} "
        f"cores, load before: {m['load']}",
        f"5 people in 1920x1080 unless a row says otherwise; {setting['seconds']:g} s each, in a process of its own",
        "",
        f"{'':22}{'p50 ms':>10}{'p95 ms':>10}{'ms/person':>11}{'people/s':>10}{'peak MB':>9}",
    ]
    starts = [f"{'seconds':30}" + "".join(f"{name:>10}" for name in (*STAGES, "total", "cpu")) + f"{'MB':>6}"]
    for key, cell in measured.items():
        if "error" in cell:
            lines.append(f"{key:22}not measured: {cell['error']}")
        elif "warm" in cell:
            for cache in ("warm", "cold"):
                row = cell[cache]
                times = "".join(f"{row[name]:10.2f}" for name in (*STAGES, "total", "cpu"))
                starts.append(f"{f'{key} people, {cache} cache':30}{times}{row['peak_mb']:6.0f}")
        else:
            p95 = f"{cell['p95_ms']:10.2f}" if "p95_ms" in cell else f"{'':10}"
            per = cell["ms"] / cell["people"]
            lines.append(f"{key:22}{cell['ms']:10.2f}{p95}{per:11.2f}{cell['per_second']:10.1f}{cell['peak_mb']:9.0f}")
    return [*lines, "", *starts]


def end_to_end(
    bundle: str,
    backend: str,
    precision: str,
    seconds: float,
    people: int = 5,
    height: int = 1080,
    width: int = 1920,
    threads: int | None = None,
    flip_test: bool = False,
) -> dict[str, Any]:
    """Frame to keypoints, one frame at a time."""
    pose = PoseEstimator(bundle, backend=backend, precision=precision, threads=threads, flip_test=flip_test)
    frame, boxes = crowd(people, height, width)
    return _figures(lambda: pose(frame, boxes), people, seconds)


def network(bundle: str, backend: str, precision: str, seconds: float, batch: int) -> dict[str, Any]:
    """Inference only, on crops that are ready."""
    with Bundle(bundle) as opened:
        session, c = open_session(opened, backend, precision), opened.contract
    crops = np.random.default_rng(0).integers(0, 256, (batch, c.height, c.width, 3)).astype(np.uint8)
    return _figures(lambda: session.infer(crops), batch, seconds)


def processes(bundle: str, backend: str, precision: str, seconds: float, count: int) -> dict[str, Any]:
    """So many processes at once, each with its share of the CPU's threads."""
    arguments = {"bundle": bundle, "backend": backend, "precision": precision, "seconds": seconds}
    arguments["threads"] = max(1, cores() // count)
    with ExitStack() as stack:
        children = [start_process(sys.executable, f"{__name__}:one_of_many") for _ in range(count)]
        for child in children:
            stack.callback(child.close)
        try:
            for begin in (arguments, {}):  # all are warm before the first one is timed
                for child in children:
                    child.send(**begin)
                found = [child.read() for child in children]
        except ProcessError as error:
            raise ToolError(f"one of {count} processes {error}") from error
    return {
        "ms": float(np.median([one["ms"] for one in found])),
        "per_second": sum(one["per_second"] for one in found),
        "peak_mb": sum(one["peak_mb"] for one in found),
        "people": found[0]["people"],
    }


def one_of_many(bundle: str, backend: str, precision: str, seconds: float, threads: int) -> Iterator[dict[str, Any]]:
    """A child of `processes`: it warms up, and runs when it is told to."""
    pose = PoseEstimator(bundle, backend=backend, precision=precision, threads=threads)
    frame, boxes = crowd(5)
    warm({"": lambda: pose(frame, boxes)}, 2 * seconds)
    yield {}
    for _ in requests():
        begin = time.perf_counter()
        times = timed(lambda: pose(frame, boxes), seconds)
        per_second = len(boxes) * len(times) / (time.perf_counter() - begin)
        figures = {"ms": 1e3 * float(np.median(times)), "per_second": per_second, "people": len(boxes)}
        yield {**figures, "peak_mb": peak_mb() or 0.0}


def start(bundle: str, backend: str, precision: str, people: int) -> dict[str, Any]:
    """From the start of a process to its first keypoints, see `cold_start`."""
    found = measure_start(bundle, backend, precision, people)
    return {"ms": 1e3 * found["warm"]["total"], "peak_mb": found["warm"]["peak_mb"], "people": people, **found}


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _figures(call: Callable[[], object], people: int, seconds: float) -> dict[str, Any]:
    warm({"": call}, 2 * seconds)
    times = timed(call, seconds)
    while len(times) < _MIN_CALLS:
        times += timed(call)
    p50, p95 = np.percentile(times, [50, 95]) * 1e3
    return {"ms": float(p50), "p95_ms": float(p95), "per_second": people / float(np.mean(times)), "people": people}


if __name__ == "__main__":
    sys.exit(main())
