"""TensorRT-RTX: TensorRT for GeForce and RTX GPUs, which builds engines on machines without a GPU.

Its quantised convolutions are not fused with what follows them (release 1.7), so fp16 should win: the two are timed.
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
    name="tensorrt_rtx",
    library="tensorrt_rtx",
    extra="tensorrt-rtx",
    device="cuda",
    rank=20,
    precisions={"fp16": "fp16", "int8": "int8_gpu", "fp32": "fp32"},
    open=_open,
    unavailable=_unavailable,
    autotune=_autotune,
    notes={"int8": "fp16 is the faster there"},
    builds_offline=True,
)
