"""TensorRT: the fastest on an NVIDIA GPU. Engines are built on the GPU that they run on, once, and kept.

INT8 is not faster by itself: on GPUs with tensor cores half precision often wins, so the two are timed.
"""

from __future__ import annotations

from collections.abc import Mapping

import tensorrt as LIBRARY

from ..engines import autotune
from ..engines.session import EngineSession, unavailable

PRECISIONS = {"fp16": "fp16", "int8": "int8_gpu", "fp32": "fp32"}


def missing() -> str | None:
    """See `backends.Backend.missing`."""
    return unavailable(LIBRARY)


def times(graphs: Mapping[str, bytes]) -> dict[str, float]:
    """See `posert.runtime.backends`."""
    return autotune.times(LIBRARY, graphs)


def Session(model: bytes, precision: str, threads: int | None = None) -> EngineSession:
    """See `backends.Backend.Session`; CPU threads play no part."""
    return EngineSession(LIBRARY, model, precision)
