"""TensorRT-RTX: TensorRT for GeForce and RTX GPUs, which builds engines on machines without a GPU.

Its quantised convolutions are not fused with what follows them (release 1.7), so half precision should win: the two are
timed.
"""

from __future__ import annotations

from collections.abc import Mapping

import tensorrt_rtx as LIBRARY

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
