"""TensorRT: the fastest on an NVIDIA GPU. Engines are built once, on the GPU that runs them, and kept in the cache.

int8 is not always the fastest: on GPUs with tensor cores fp16 often is, so the two are timed.
"""

from __future__ import annotations

from collections.abc import Mapping

from . import Backend, Session


def _open(model: bytes, precision: str, threads: int | None = None) -> Session:
    """See `backends.Open`; CPU threads play no part."""
    from ..engines.session import EngineSession

    return EngineSession(BACKEND.import_library(), model, precision)


def _unavailable() -> str | None:
    from ..engines.session import unavailable

    return unavailable(BACKEND.import_library())


def _autotune(graphs: Mapping[str, bytes]) -> dict[str, float]:
    from ..engines.autotune import times

    return times(BACKEND.import_library(), graphs)


BACKEND = Backend(
    name="tensorrt",
    library="tensorrt",
    extra="tensorrt",
    device="cuda",
    rank=10,
    precisions={"fp16": "fp16", "int8": "int8_gpu", "fp32": "fp32"},
    open=_open,
    unavailable=_unavailable,
    autotune=_autotune,
)
