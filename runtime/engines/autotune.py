"""The fastest engine of a network on this GPU. No rule says whether int8 beats float16, so they are timed."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..cuda.driver import Device, Memory, Stream
from ..cuda.network import record, timed_ms
from ..errors import BackendError
from ..system.files import atomic_write, cache_folder
from .builder import title
from .cache import engines_of
from .session import EngineSession, unavailable

log = logging.getLogger("posert")

_ROUNDS, _RUNS = 5, 20  # 100 runs of each: well under a second


def times(trt: Any, graphs: Mapping[str, bytes]) -> dict[str, float]:
    """GPU time of one run of each engine, ms, at the batch that it was optimised for.

    `graphs` are one network's, by precision. Engines are built where the cache has none. They are timed once; the
    result is kept beside them and holds until one of them is rebuilt. One that cannot be built is left out, with a
    warning. Raises BackendError: no engine can be built and run.
    """
    if reason := unavailable(trt):
        raise BackendError(reason)
    models = {precision: hashlib.sha256(graph).hexdigest() for precision, graph in graphs.items()}
    key = json.dumps([Device().name, title(trt), models], sort_keys=True)
    path = cache_folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.times"
    kept = _kept(path, models)
    if kept is not None:
        return kept
    runs: dict[str, Callable[[], list[float]]] = {}
    refused: list[BackendError] = []
    for precision, graph in graphs.items():
        try:
            runs[precision] = _prepared(EngineSession(trt, graph, precision))
        except BackendError as error:
            refused.append(error)
            log.warning("%s is left out: %s", precision, error)
    if not runs:
        raise refused[0]
    seen: dict[str, list[float]] = {precision: [] for precision in runs}
    for _ in range(_ROUNDS):  # in turn, because clocks rise and fall
        for precision, run in runs.items():
            seen[precision] += run()
    found = {precision: float(np.median(ms)) for precision, ms in seen.items()}
    written = {"device": Device().name, "library": title(trt), "models": models, "ms": found}
    with atomic_write(path) as file:
        file.write(json.dumps(written).encode())
    told = ", ".join(f"{precision} {ms:.3f} ms" for precision, ms in found.items())
    log.warning("%s on %s: %s; the times are kept in %s", title(trt), Device().name, told, path)
    return found


def _kept(path: Path, models: Mapping[str, str]) -> dict[str, float] | None:
    """The times of an earlier run; None where an engine is newer than they are, or missing."""
    try:
        found = {precision: float(ms) for precision, ms in json.loads(path.read_bytes())["ms"].items()}
        engines = [[file.stat().st_mtime_ns for file, _ in engines_of(models[p])] for p in found]
        whole = bool(engines) and all(engines)
        return found if whole and path.stat().st_mtime_ns >= max(map(max, engines)) else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s cannot be read (%s); the engines are timed again", path, error)
        return None


def _prepared(session: EngineSession) -> Callable[[], list[float]]:
    """A function that runs an engine some times and returns the times, ms."""
    network, batch = session.network, session.network.best
    with session.device.active():
        shapes, dtype = network.outputs(network.crop)
        stream = Stream()
        crops = Memory(batch * int(np.prod(network.crop)))
        outputs = [Memory(batch * int(np.prod(shape)) * dtype.itemsize) for shape in shapes]
        stream.clear(crops.address, crops.size)
        run = record(
            network.bind(batch, crops.address, [output.address for output in outputs], stream),
            stream,
            network.capturable,
        )

    def timed(_kept: object = (crops, outputs)) -> list[float]:  # the engine writes into them
        with session.device.active():
            return timed_ms(run, stream, _RUNS)

    return timed
