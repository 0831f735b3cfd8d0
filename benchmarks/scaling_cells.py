"""What a cell of `scaling` and of `accuracy` measures, in a process of its own."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np

from ..runtime.bench.process import ProcessError
from ..runtime.bench.scene import crowd
from ..runtime.bench.timing import timed, warm
from ..runtime.bundle.archive import Bundle
from ..runtime.estimator import PoseEstimator
from ..runtime.selection import open_session
from ..runtime.system.memory import peak_mb
from .child import ToolError, requests
from .child import start as start_process
from .cold_start import measure as measure_start

_MIN_CALLS = 5  # of a slow cell


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
        begin, times = time.perf_counter(), list[float]()
        while not times or time.perf_counter() - begin < seconds:
            times += timed(lambda: pose(frame, boxes))
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
    start, times = time.perf_counter(), list[float]()
    while len(times) < _MIN_CALLS or time.perf_counter() - start < seconds:
        times += timed(call)
    p50, p95 = np.percentile(times, [50, 95]) * 1e3
    return {"ms": float(p50), "p95_ms": float(p95), "per_second": people / float(np.mean(times)), "people": people}
