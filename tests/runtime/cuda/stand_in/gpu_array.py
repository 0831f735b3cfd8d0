"""Arrays and a stream as CuPy and pycuda have them, in memory of the host, which is that of the stand-in GPU."""

from typing import Any

import numpy as np

from posert.runtime.cuda.driver import Device
from posert.runtime.cuda.driver import Stream as DriverStream


class GpuArray:
    """What both libraries' arrays say of themselves; `stream` is None for pycuda's."""

    def __init__(self, array: Any, stream: int | None) -> None:
        self.array, self.stream = array, stream
        self.shape, self.dtype = array.shape, array.dtype

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "strides": self.array.strides,
            "data": (self.array.ctypes.data, False),
            "typestr": self.dtype.str,
            "stream": self.stream,
            "version": 3,
        }


def uploaded(array: Any, stream: int | None = None) -> GpuArray:
    return GpuArray(np.array(array), stream)


class Stream:
    """`ptr` is CuPy's name of the handle, `handle` pycuda's; a stream of the user's has one of them."""

    def __init__(self, name: str) -> None:
        self._device = Device()
        with self._device.active():
            self._stream = DriverStream()
        setattr(self, name, self._stream.address)

    def synchronize(self) -> None:
        with self._device.active():
            self._stream.synchronize()
