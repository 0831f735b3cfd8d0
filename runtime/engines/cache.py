"""The folder that caches compiled engines and graphs; see `sidecar` for its files.

A file is loaded only if its sidecar names this graph, this release of the library and this device.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ..errors import BackendError, InputError
from ..system.files import cache_folder
from .sidecar import SUFFIX, Engine, EngineMetadata, read_engine, sidecar_of, write_engine

log = logging.getLogger("posert")

MAX_CACHED_GRAPHS = 16
"""Graphs of one backend that `cached_graph` keeps; one is as large as the graph, 30 MB for hrnet_w32 in int8."""

Compiled = TypeVar("Compiled")


def find_engine(model: str, fits: Callable[[EngineMetadata], str | None]) -> Engine | None:
    """The newest engine of a graph, given by its sha256, in the cache; None if there is none.

    `fits` returns why an engine cannot be used here, None where it can. Engines that are damaged or do not fit are left
    alone and logged.
    """
    for path, metadata in engines_of(model):
        reason = fits(metadata)
        if reason is not None:
            log.info("%s is not used: %s", path, reason)
            continue
        try:
            return read_engine(path)
        except BackendError as error:
            log.warning("%s; it is ignored", error)
    return None


def engines_of(model: str) -> list[tuple[Path, EngineMetadata]]:
    """The files in the cache that hold engines of a graph, given by its sha256, the newest first.

    The sidecars say so and not the names: a file that was compiled elsewhere only has to be copied there.
    """
    found = []
    for path in cache_folder().glob(f"*{SUFFIX}"):
        try:
            metadata = read_engine(path, whole=False).metadata
            if metadata.model == model:
                found.append((path.stat().st_mtime_ns, str(path), metadata))
        except (BackendError, OSError) as error:  # OSError: another process has just removed it
            ours = path.name.startswith(model[:16])
            log.log(logging.WARNING if ours else logging.INFO, "%s; it is ignored", error)
    return [(Path(path), metadata) for _, path, metadata in sorted(found, key=lambda one: one[:2], reverse=True)]


def cached_graph(
    wanted: EngineMetadata,
    load: Callable[[bytes | memoryview], Compiled],
    build: Callable[[], Compiled],
    save: Callable[[Compiled], bytes | memoryview],
) -> Compiled:
    """A compiled graph from the cache, or compiled now by `build` and put there.

    `wanted` names the file; one with other metadata is not loaded, and neither is one of whose bytes `load` raises a
    BackendError. `save` gives the bytes that `load` takes. A file that cannot be loaded or written is logged.
    """
    path = cache_folder() / wanted.file_name
    if path.exists():
        try:
            engine = read_engine(path)
            if engine.metadata != wanted:
                raise BackendError(f"{path} is of another graph, CPU or release")
            loaded = load(engine.plan)
        except BackendError as error:
            log.warning("%s; the graph is compiled again", error)
        else:
            with contextlib.suppress(OSError):
                os.utime(path)  # those that were used last stay
            return loaded
    built = build()
    try:
        write_engine(path, Engine(wanted, save(built)))
        files = sorted(path.parent.glob(f"*-{wanted.backend}-*{SUFFIX}"), key=lambda file: -file.stat().st_mtime)
        for file in files[MAX_CACHED_GRAPHS:]:
            file.unlink(missing_ok=True)
            sidecar_of(file).unlink(missing_ok=True)
    except (InputError, OSError) as error:
        log.info("the compiled graph is not cached: %s", error)
    return built
