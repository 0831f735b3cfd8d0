"""TensorRT: the fastest on an NVIDIA GPU. Engines are built once, on the GPU that runs them, and kept in the cache.

int8 is not always the fastest: on GPUs with tensor cores fp16 often is, so the two are timed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import Backend, Session

if TYPE_CHECKING:
    from ..engines.sidecar import Engine


def engine_backend(library: str, **fields: Any) -> Backend:
    """A backend that runs TensorRT's or TensorRT-RTX's engines; `fields` are those in which the two differ."""

    def open_session(model: bytes, precision: str, threads: int | None = None) -> Session:
        from ..engines.session import EngineSession

        return EngineSession(backend.import_library(), model, precision)

    def open_engine(engine: Engine) -> Session:
        from ..engines.session import EngineSession

        return EngineSession(backend.import_library(), b"", engine.metadata.precision, engine)

    def unavailable() -> str | None:
        from ..engines.session import unavailable

        return unavailable(backend.import_library())

    def autotune(graphs: Mapping[str, bytes]) -> dict[str, float]:
        from ..engines.autotune import times

        return times(backend.import_library(), graphs)

    backend = Backend(
        name=library,
        library=library,
        device="cuda",
        precisions={"fp16": "fp16", "int8": "int8_gpu", "fp32": "fp32"},
        open=open_session,
        unavailable=unavailable,
        autotune=autotune,
        open_engine=open_engine,
        **fields,
    )
    return backend


BACKEND = engine_backend("tensorrt", extra="tensorrt", rank=10)
