"""Inference backends, one file each, and those of installed plug-ins (entry points "posert.backends").

A backend file defines `BACKEND`, a `Backend`. It imports its library inside functions, so that the spec can be read
where the library is not installed.
"""

from __future__ import annotations

import importlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ..cuda.library import missing as no_driver
from ..errors import BackendError
from ..registry import Registry, plugins
from ._sessions import (
    AsyncSession,
    GraphRequest,
    GraphSession,
    Open,
    OpenCached,
    OpenGraph,
    Request,
    Session,
    Tensor,
)

if TYPE_CHECKING:
    from ..engines.sidecar import Engine

__all__ = [
    "BACKENDS",
    "AsyncSession",
    "Backend",
    "GraphRequest",
    "GraphSession",
    "MissingBackend",
    "OpenGraph",
    "Request",
    "Session",
    "Tensor",
    "backends",
    "installed_backends",
    "load_backend",
    "pip_line",
    "usable_backends",
]

log = logging.getLogger("posert")


class MissingBackend(BackendError):
    """The library of a backend is not installed."""


@dataclass(frozen=True)
class Backend:
    """What one backend is and can do. Fields with a default are optional.

    Attributes:
        name: of its file or entry point; commands and bundles use it.
        library: the Python package that it needs.
        precisions: what it can run, fastest first, each with the bundle's artifact that holds the graph.
        open: compiles a graph; a GPU backend returns a `posert.runtime.cuda.session.GpuSession`, one that can run
            several batches at a time an `AsyncSession`.
        device: "cpu", or "cuda": it needs an NVIDIA GPU and driver.
        rank: `auto` tries the lowest first, equal ones by name.
        extra: posert's pip extra that installs the library; None for a library that is installed by its own name.
        unavailable: what this machine lacks to run it although the library is installed, such as a GPU, with the line
            that fixes it; None where nothing is lacking.
        unsupported: precisions that this machine cannot run, each with the reason. It may import the library.
        open_throughput: as `open`, for many frames per second instead of the shortest answer to one.
        open_cached: as `open`, with a cache of compiled graphs.
        open_graph: compiles any ONNX graph, such as a detector; None where the backend runs posert's own graphs only.
        autotune: GPU time per run, ms, of each of some precisions, given as graphs by precision; for a backend on which
            no rule says which precision is the fastest.
        notes: by precision, a remark for `posert doctor`.
        builds_offline: engines can be built on machines that cannot run them (`posert compile`).
        open_engine: loads an engine file, for a library that runs those. Raises BackendError: it is not for this
            machine or release.
    """

    name: str
    library: str
    precisions: Mapping[str, str]
    open: Open
    device: Literal["cpu", "cuda"] = "cpu"
    rank: int = 100
    extra: str | None = None
    unavailable: Callable[[], str | None] = lambda: None
    unsupported: Callable[[], Mapping[str, str]] = dict
    open_throughput: Open | None = None
    open_cached: OpenCached | None = None
    open_graph: OpenGraph | None = None
    autotune: Callable[[Mapping[str, bytes]], dict[str, float]] | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    builds_offline: bool = False
    open_engine: Callable[[Engine], Session] | None = None

    def __post_init__(self) -> None:
        if self.device not in ("cpu", "cuda"):
            raise BackendError(f"backend {self.name!r}: device {self.device!r}; expected 'cpu' or 'cuda'")

    @property
    def pip_line(self) -> str:
        """The command that installs its library."""
        return f'pip install "posert[{self.extra}]"' if self.extra else f"pip install {self.library}"

    def runnable(self) -> dict[str, str]:
        """Those of `precisions` that this machine can run. It may import the library."""
        lacking = self.unsupported()
        return {precision: artifact for precision, artifact in self.precisions.items() if precision not in lacking}

    def import_library(self) -> Any:
        """Its library's module.

        Raises:
            ImportError, OSError: it is not installed, or broken.
        """
        return importlib.import_module(self.library)

    def library_version(self) -> str:
        """Release of the installed library: its `__version__`."""
        return str(vars(self.import_library()).get("__version__", "unknown"))


BACKENDS = Registry("backend", __name__, "BACKEND", "posert.backends", Backend, BackendError)


def backends() -> list[str]:
    """All backend names, the preferred first, whether their libraries are installed or not."""
    specs = {name: _spec(name) for name in BACKENDS.names()}
    return sorted(specs, key=lambda name: (spec.rank if (spec := specs[name]) else math.inf, name))


def load_backend(name: str) -> Backend:
    """A backend whose library is installed and can be imported.

    Raises:
        BackendError: an unknown name, or its library is not installed (with the pip line that installs it) or broken.
    """
    try:
        backend = BACKENDS.load(name)
        backend.import_library()
    except (ImportError, OSError) as error:  # OSError: a shared library that is missing or of another machine
        if isinstance(error, ImportError) and (error.name or "").split(".")[0] == __name__.split(".")[0]:
            raise  # a fault of ours, not a missing library
        if isinstance(error, ModuleNotFoundError):
            raise MissingBackend(
                f"backend {name!r} needs the Python package {error.name!r}, which is not installed: {pip_line(name)}"
            ) from error
        raise BackendError(
            f"backend {name!r} is installed but does not load: {error}. Reinstall it: {pip_line(name)}"
        ) from error
    return backend


def usable_backends() -> Iterator[Backend]:
    """The backends that can run here, the preferred first; one that is broken leaves a warning.

    Lazy, because importing a library takes up to seconds: who takes the first does not pay for the others.
    """
    for name in backends():
        spec = _spec(name)
        if spec is not None and spec.device == "cuda" and no_driver() is not None:
            continue  # before its library is imported
        try:
            backend = load_backend(name)
        except MissingBackend:
            continue
        except BackendError as error:
            log.warning("%s", error)
            continue
        lacking = backend.unavailable()
        if lacking is None:
            yield backend
        else:
            log.info("backend %r is installed but cannot run: %s", name, lacking)


def installed_backends() -> dict[str, Backend]:
    """All backends that can run here by name, the preferred first."""
    return {backend.name: backend for backend in usable_backends()}


def pip_line(name: str) -> str:
    """The command that installs a backend's library, or reinstalls a plug-in that does not import."""
    spec = _spec(name)
    if spec is not None:
        return spec.pip_line
    packages = [entry.dist.name for entry in plugins(BACKENDS.group) if entry.name == name and entry.dist]
    return f"pip install --force-reinstall {' '.join(packages)}" if packages else f"pip install {name}"


def _spec(name: str) -> Backend | None:
    """A backend's spec, None where it cannot be read: `load_backend` says why."""
    try:
        return BACKENDS.load(name)
    except Exception:  # somebody else's file or plug-in
        return None
