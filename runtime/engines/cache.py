"""Compiled engines and graphs as files, and the folder that caches them.

An engine is machine code that a library runs unchecked. It is loaded only from a whole file whose metadata names this
graph, this release of the library and this device.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..errors import BackendError, InputError
from ..system.files import atomic_write, cache_folder

log = logging.getLogger("posert")

_MAGIC = b"posert engine 1\n"
_MAX_HEADER = 1 << 20
MAX_CACHED_GRAPHS = 16
"""Graphs of one backend that `cached_graph` keeps; one is as large as the graph, 30 MB for hrnet_w32 in int8."""

Compiled = TypeVar("Compiled")


@dataclass(frozen=True)
class EngineMetadata:
    """The graph, the library and the devices that an engine was built for.

    Attributes:
        model: sha256 of the ONNX graph.
        precision: of that graph.
        backend, version: of the library that built the engine; no other release runs it.
        devices: that it runs on: "sm86", ..., or the name of the one GPU or CPU that it was built on.
        batch: its optimisation profiles, smallest, best and largest batch.
        options: the other settings of the build.
        layers: how many layers of each type and output type the parser made of the graph, such as "CONVOLUTION HALF".
        timing_cache: sha256 of the timing cache that was used, "" for none.
    """

    model: str
    precision: str
    backend: str
    version: str
    devices: tuple[str, ...]
    batch: tuple[tuple[int, int, int], ...]
    options: dict[str, Any]
    layers: dict[str, int]
    timing_cache: str = ""

    @property
    def file_name(self) -> str:
        """Name of the file, the same for the same build."""
        key = json.dumps([self.devices, self.batch, self.options], sort_keys=True)
        parts = [self.model[:16], self.precision, self.backend, self.version, *self.devices]
        slug = re.sub(r"[^A-Za-z0-9_.-]+", "_", "-".join(parts))
        return f"{slug[:160]}-{hashlib.sha256(key.encode()).hexdigest()[:8]}.engine"


@dataclass(frozen=True)
class Engine:
    """An engine and its metadata."""

    metadata: EngineMetadata
    plan: bytes | memoryview


def write_engine(path: Path, engine: Engine) -> None:
    """Write an engine; the file is either whole or absent."""
    header = {**asdict(engine.metadata), "sha256": hashlib.sha256(engine.plan).hexdigest(), "bytes": len(engine.plan)}
    text = json.dumps(header, sort_keys=True).encode()
    with atomic_write(path) as file:
        file.write(_MAGIC + struct.pack("<I", len(text)) + text)
        file.write(engine.plan)


def read_engine(path: Path, whole: bool = True) -> Engine:
    """An engine, checked to be whole; without `whole` its metadata alone, and no plan.

    Raises BackendError: the file is no engine, or damaged.
    """

    def damaged(why: str) -> BackendError:
        return BackendError(f"{path} is not a usable engine: {why}")  # what fixes it depends on who reads it

    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise damaged("it does not begin like one of this version of posert")
            length = struct.unpack("<I", file.read(4))[0]
            if length > _MAX_HEADER:
                raise damaged("its metadata is too long")
            header = json.loads(file.read(length))
            size, digest = header.pop("bytes"), header.pop("sha256")
            for name in ("devices", "batch"):
                header[name] = tuple(tuple(v) if isinstance(v, list) else v for v in header[name])
            metadata = EngineMetadata(**header)
            plan = file.read() if whole else b""
    except OSError as error:
        raise damaged(error.strerror or str(error)) from error
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise damaged(f"its metadata cannot be read ({error})") from error
    if whole and len(plan) < size:
        raise damaged(f"it is cut short: {len(plan)} of {size} bytes are there")
    if whole and hashlib.sha256(plan).hexdigest() != digest:
        raise damaged("its bytes were changed since they were written")
    return Engine(metadata, plan)


def find_engine(model: str, fits: Callable[[EngineMetadata], str | None]) -> Engine | None:
    """The engine of a graph, given by its sha256, in the cache; None if there is none.

    `fits` returns why an engine cannot be used here, None where it can. Engines that are damaged or do not fit are left
    alone and logged.
    """
    for path in sorted(cache_folder().glob(f"{model[:16]}-*.engine")):
        try:
            metadata = read_engine(path, whole=False).metadata
            reason = "another graph" if metadata.model != model else fits(metadata)
            if reason is None:
                return read_engine(path)
            log.info("%s is not used: %s", path, reason)
        except BackendError as error:
            log.warning("%s; it is ignored", error)
    return None


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
        files = sorted(path.parent.glob(f"*-{wanted.backend}-*.engine"), key=lambda file: -file.stat().st_mtime)
        for file in files[MAX_CACHED_GRAPHS:]:
            file.unlink(missing_ok=True)
    except (InputError, OSError) as error:
        log.info("the compiled graph is not cached: %s", error)
    return built
