"""What the rest of the runtime sees of a library: a network or a graph that is compiled, and its runs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..pose.heads import Outputs


class Session(Protocol):
    """A network compiled for this machine; serves one thread at a time."""

    def infer(self, crops: NDArray[np.uint8]) -> Outputs:
        """One array `(N, ...)` float32 per output of the network, of crops `(N, H, W, 3)` uint8 BGR.

        The crops are C-contiguous, and N is at least 1. The arrays belong to the session and are overwritten by the
        next call: copy what must stay.

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
        """Wait for the end of a run whose result is not needed; when this returns the crops are no longer read."""
        ...


class AsyncSession(Session):
    """A session that runs several batches at a time: `PoseEstimator.stream` overlaps frames on it."""

    @abstractmethod
    def requests(self) -> list[Request]:
        """New requests, as many as keep the engine busy; they run in the order of their starts."""


class Open(Protocol):
    """Compiles a graph."""

    def __call__(self, model: bytes, precision: str, threads: int | None = None) -> Session:
        """`threads` bounds the CPU threads; None lets the library choose.

        Raises BackendError: the library refused the graph, or this machine cannot run it.
        """
        ...


class OpenCached(Protocol):
    """Compiles a graph, or loads it from the cache of compiled graphs."""

    def __call__(
        self, digest: str, read: Callable[[], bytes], precision: str, threads: int | None, throughput: bool
    ) -> Session:
        """As `Open`. `digest` is the graph's sha256; `read` gives the graph where the cache does not hold it."""
        ...


@dataclass(frozen=True)
class Tensor:
    """An input or output of a graph: its name, its sizes (None: any), and its type as numpy calls it."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


class GraphRequest(Protocol):
    """One of the runs that a graph can have under way at a time; see `Request`."""

    def start(self, inputs: Sequence[NDArray[Any]]) -> None:
        """Begin a run. The arrays, C-contiguous and in the order of `GraphSession.inputs`, must stay as they are."""
        ...

    def wait(self) -> tuple[NDArray[Any], ...]:
        """One array per output, in the order of `GraphSession.outputs`; the request's next `start` overwrites them."""
        ...

    def drop(self) -> None:
        """Wait for the end of a run whose result is not needed."""
        ...


class GraphSession(Protocol):
    """Any ONNX graph, such as a detector, compiled for this machine; `metadata` is the file's `metadata_props`."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    metadata: Mapping[str, str]

    def requests(self) -> list[GraphRequest]:
        """New requests, as many as keep the engine busy: one where the library runs a graph while its caller waits."""
        ...


class OpenGraph(Protocol):
    """Compiles an ONNX graph as it is."""

    def __call__(self, model: Path | bytes, threads: int | None = None, throughput: bool = False) -> GraphSession:
        """A path finds weights that lie beside the graph. Raises BackendError as `Open`."""
        ...
