"""Inference backends, one file each: the file's name is the backend's name.

A backend file imports its library at its head and defines `PRECISIONS`, the precisions it can run, fastest first, each
with the bundle's artifact that holds it, and the class `Session`. What else it may have: `missing()`, where it needs
more than its library to run here, such as a GPU: what is missing, or None; `LACKING`, precisions that it runs on other
machines, each with what this one lacks; `Throughput`, a `Session` for many frames where that is another engine than the
one with the shortest answer; `Session.kept(digest, read, precision, threads)`, which keeps what it compiles: `digest`
is the graph's sha256 and `read` gives it where it is not there yet.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from ..cuda.library import missing as no_driver
from ..errors import BackendError
from ..pose.heads import Outputs
from ..registry import load_module, module_names, unknown_name

# In the order in which `auto` tries them; a file that is not named here comes last.
_ON_GPU = ("tensorrt", "tensorrt_rtx", "onnxruntime_cuda", "torchscript_cuda")
_PREFERENCE = (*_ON_GPU, "openvino", "onnxruntime", "torchscript")
# The pip extra that brings a backend, where it is not called like the backend.
_EXTRAS = {"torchscript": "torch", "torchscript_cuda": "torch"}


_BROKEN = "backend {!r} is installed but does not load: {}. Install it anew: {}"

log = logging.getLogger("posert")


class MissingBackend(BackendError):
    """The library of a backend is not installed."""


class Session(Protocol):
    """A network compiled for this machine; serves one thread at a time."""

    def infer(self, crops: NDArray[np.uint8]) -> Outputs:
        """One array `(N, ...)` float32 per output of the network, of crops `(N, H, W, 3)` uint8 BGR, C-contiguous, N >= 1.

        The arrays belong to the session and are overwritten by the next call: copy what must stay.

        Raises:
            BackendError: the library failed while it ran: memory is short, or crops have another size.
        """
        ...


class Request(Protocol):
    """One of several runs that a session can have under way at a time."""

    def start(self, crops: NDArray[np.uint8]) -> None:
        """Begin a run, as `Session.infer`, and return at once. The crops must stay as they are until it has ended."""
        ...

    def wait(self) -> Outputs:
        """The outputs of the run that was started, when it has ended; the request's next `start` overwrites them."""
        ...

    def drop(self) -> None:
        """Wait for the end of a run whose outputs are not needed; when this returns the crops are no longer read."""
        ...


class AsyncSession(ABC):
    """A session that runs several batches at a time. A backend that can do that derives from it."""

    @abstractmethod
    def infer(self, crops: NDArray[np.uint8]) -> Outputs:
        """See `Session.infer`."""

    @abstractmethod
    def requests(self) -> list[Request]:
        """New requests, as many as keep the engine busy; they run in the order of their starts."""


class Backend(Protocol):
    """What a backend file offers."""

    PRECISIONS: dict[str, str]

    def Session(self, model: bytes, precision: str, threads: int | None = None) -> Session:
        """Compile a graph. `threads` bounds the CPU threads; None lets the library choose."""
        ...


def backends() -> list[str]:
    """All backend names, the preferred first, whether installed or not."""
    return sorted(module_names(__name__), key=lambda n: (_PREFERENCE.index(n) if n in _PREFERENCE else 99, n))


def load_backend(name: str) -> Backend:
    """Import one backend.

    Raises:
        BackendError: an unknown name, or its library is not installed (with the pip line that brings it) or broken.
    """
    if name not in backends():
        raise BackendError(unknown_name("backend", name, backends()))
    try:
        return cast(Backend, load_module(__name__, name))
    except ImportError as error:
        if (error.name or "").split(".")[0] == __name__.split(".")[0]:
            raise  # a fault of ours, not a missing library
        if isinstance(error, ModuleNotFoundError):
            raise MissingBackend(
                f"backend {name!r} needs the Python package {error.name!r}, which is not installed: {pip_line(name)}"
            ) from error
        raise BackendError(_BROKEN.format(name, error, pip_line(name))) from error
    except OSError as error:  # a shared library that is missing or of another machine
        raise BackendError(_BROKEN.format(name, error, pip_line(name))) from error


def usable_backends() -> Iterator[tuple[str, Backend]]:
    """Name and module of the backends that can run here, the preferred first; one that is broken leaves a warning.

    Lazy, because importing a library takes up to seconds: who takes the first pays for no other.
    """
    for name in backends():
        if name in _ON_GPU and no_driver() is not None:
            continue
        try:
            module = load_backend(name)
        except MissingBackend:
            continue
        except BackendError as error:
            log.warning("%s", error)
            continue
        lacking = getattr(module, "missing", lambda: None)()
        if lacking is None:
            yield name, module
        else:
            log.info("backend %r is installed but cannot run: %s", name, lacking)


def installed_backends() -> dict[str, Backend]:
    """All backends that can run here, the preferred first."""
    return dict(usable_backends())


def pip_line(name: str) -> str:
    """The command that brings a backend's library."""
    return f'pip install "posert[{_EXTRAS.get(name, name.replace("_", "-"))}]"'
