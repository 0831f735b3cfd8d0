"""TensorRT-RTX: TensorRT for GeForce and RTX GPUs, which builds engines on machines without a GPU.

Its quantised convolutions are not fused with what follows them (release 1.7), so fp16 should win: the two are timed.
"""

from __future__ import annotations

from .tensorrt import engine_backend

BACKEND = engine_backend(
    "tensorrt_rtx", extra="tensorrt-rtx", rank=20, notes={"int8": "fp16 is the faster there"}, builds_offline=True
)
