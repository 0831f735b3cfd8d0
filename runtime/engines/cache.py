"""Compiled engines as files: what they are for, and the folder that keeps them.

An engine is machine code that a library runs unchecked, so it is taken only from a file that is whole and that says of
itself that it was made of this graph, by this release of the library, for this GPU. Anything else is not run.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import BackendError
from ..system.files import atomic_write, cache_folder

log = logging.getLogger("posert")

_MAGIC = b"posert engine 1\n"
_MAX_HEADER = 1 << 20


@dataclass(frozen=True)
class Made:
    """What an engine was made of, by what and for what.

    Attributes:
        model: sha256 of the ONNX graph.
        precision: of that graph.
        backend, version: of the library that made the engine and that alone can run it.
        devices: GPUs that it runs on: "sm_86", ..., or the name of the one GPU that it was tuned on.
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
        """A name for the file: the same for the same build."""
        key = json.dumps([self.devices, self.batch, self.options], sort_keys=True)
        parts = [self.model[:16], self.precision, self.backend, self.version, *self.devices]
        slug = re.sub(r"[^A-Za-z0-9_.-]+", "_", "-".join(parts))
        return f"{slug[:160]}-{hashlib.sha256(key.encode()).hexdigest()[:8]}.engine"


@dataclass(frozen=True)
class Engine:
    """An engine and what it was made of."""

    made: Made
    plan: bytes | memoryview


def write_engine(path: Path, engine: Engine) -> None:
    """Write an engine; the file is either whole or absent."""
    header = {**asdict(engine.made), "sha256": hashlib.sha256(engine.plan).hexdigest(), "bytes": len(engine.plan)}
    text = json.dumps(header, sort_keys=True).encode()
    with atomic_write(path) as file:
        file.write(_MAGIC + struct.pack("<I", len(text)) + text)
        file.write(engine.plan)


def read_made(path: Path) -> Made:
    """Only what an engine was made of.

    Raises:
        BackendError: the file is no engine, or damaged.
    """
    return _read(path, whole=False).made


def read_engine(path: Path) -> Engine:
    """An engine, checked to be whole.

    Raises:
        BackendError: the file is no engine, or damaged.
    """
    return _read(path, whole=True)


def _read(path: Path, whole: bool) -> Engine:
    def damaged(why: str) -> BackendError:
        return BackendError(f"{path} is not a usable engine: {why}")  # what mends it depends on who reads it

    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise damaged("it does not begin like one of this version of posert")
            length = struct.unpack("<I", file.read(4))[0]
            if length > _MAX_HEADER:
                raise damaged("its description is too long")
            header = json.loads(file.read(length))
            size, digest = header.pop("bytes"), header.pop("sha256")
            for name in ("devices", "batch"):
                header[name] = tuple(tuple(v) if isinstance(v, list) else v for v in header[name])
            made = Made(**header)
            plan = file.read() if whole else b""
    except OSError as error:
        raise damaged(error.strerror or str(error)) from error
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise damaged(f"what it says of itself cannot be read ({error})") from error
    if whole and len(plan) < size:
        raise damaged(f"it is cut short: {len(plan)} of {size} bytes are there")
    if whole and hashlib.sha256(plan).hexdigest() != digest:
        raise damaged("its bytes were changed since they were written")
    return Engine(made, plan)


def find_engine(model: str, fits: Callable[[Made], str | None]) -> Engine | None:
    """The engine of a graph in the cache.

    Args:
        model: sha256 of the graph.
        fits: says of an engine why it cannot be used here; None where it can.

    Those that are damaged or do not fit are left alone, with a line in the log.
    """
    for path in sorted(cache_folder().glob(f"{model[:16]}-*.engine")):
        try:
            made = read_made(path)
            reason = "another graph" if made.model != model else fits(made)
            if reason is None:
                return read_engine(path)
            log.info("%s is not used: %s", path, reason)
        except BackendError as error:
            log.warning("%s; it is left out", error)
    return None
