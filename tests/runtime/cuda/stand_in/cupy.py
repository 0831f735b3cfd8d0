"""What the example takes of CuPy: its arrays name their stream."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
from gpu_array import GpuArray, Stream, uploaded

LEGACY = 1  # the default stream


def asarray(array: Any) -> GpuArray:
    return uploaded(array, LEGACY)


def empty(shape: tuple[int, ...], dtype: Any) -> GpuArray:
    return GpuArray(np.full(shape, np.nan, dtype), LEGACY)


def asnumpy(array: GpuArray) -> Any:
    return array.array.copy()


cuda = SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=lambda: 1), Stream=partial(Stream, "ptr"))
