"""Frames and streams of pycuda. It needs a CUDA toolkit to be installed (`pip install "posert[pycuda]"`) and a GPU to
be imported; elsewhere an array that describes itself as its GPUArray does stands for it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from posert.runtime.cuda import library
from posert.runtime.cuda.driver import Device, Stream
from posert.runtime.cuda.frames import device_image, on_device, stream_of
from posert.runtime.cuda.kernels import Format
from posert.runtime.errors import InputError


@pytest.fixture
def frame(golden_image: Callable[[int], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(golden_image(0))


class GpuArray:
    """What pycuda.gpuarray.GPUArray (2026.1) says of itself: strides always, a stream never, an address that is an
    object with `__int__`. The memory is the host's, as the stand-in for a GPU has it."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array
        self.shape, self.dtype, self.strides = array.shape, array.dtype, array.strides
        self.gpudata = array.ctypes.data

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "strides": self.strides,
            "data": (int(self.gpudata), False),
            "typestr": self.dtype.str,
            "stream": None,
            "version": 3,
        }


def test_an_array_like_its_own_is_read_where_it_lies(fake_gpu: ctypes.CDLL, frame: NDArray[np.uint8]) -> None:
    assert on_device(GpuArray(frame))
    height, width = frame.shape[:2]
    with Device().active():
        image = device_image(GpuArray(frame), None, Stream())
        part = device_image(GpuArray(frame[10:50, 20:60]), None, Stream())
        with pytest.raises(InputError, match="side by side"):
            device_image(GpuArray(frame[:, ::2]), None, Stream())
        with pytest.raises(InputError, match="expected uint8"):
            device_image(GpuArray(frame.astype(np.float32)), None, Stream())
    assert (image.pixels, image.pitch) == (frame.ctypes.data, 3 * width)
    assert (image.width, image.height, image.format) == (width, height, Format.BGR)
    assert (part.width, part.height, part.pitch) == (40, 40, 3 * width)  # a slice keeps the pitch


def test_a_stream_like_its_own_is_taken_by_its_handle(fake_gpu: ctypes.CDLL) -> None:
    assert stream_of(SimpleNamespace(handle=7012)).address == 7012


def test_pycuda_itself(frame: NDArray[np.uint8]) -> None:
    pytest.importorskip("pycuda")
    if library.missing():
        pytest.skip(f"no GPU: {library.missing()}")
    import pycuda.autoprimaryctx
    import pycuda.driver
    import pycuda.gpuarray

    with Device().active():
        stream = pycuda.driver.Stream()
        array = pycuda.gpuarray.to_gpu_async(frame, stream=stream)
        image = device_image(array, None, Stream(), writer=stream_of(stream))
    assert image.pixels == int(array.gpudata) and image.owner is array
    assert (image.width, image.height) == frame.shape[1::-1]
    assert set(GpuArray(frame).__cuda_array_interface__) == set(array.__cuda_array_interface__)
