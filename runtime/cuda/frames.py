"""Arrays and streams of other libraries: frames as the kernels read them, without a copy where they lie on the GPU.

An array of the GPU is known by `__cuda_array_interface__` (PyTorch, CuPy, Numba, pycuda) or DLPack (JAX and the rest).
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .driver import Stream
from .kernels import BYTES_PER_PIXEL, Format, Image
from .library import HANDLE, call, symbols

_LEGACY_STREAM = 1
_DLPACK_CUDA = 2
_CONTEXT = 1  # of CUpointer_attribute


def on_device(frame: Any) -> bool:
    """Whether an array lies on the GPU."""
    if hasattr(frame, "__cuda_array_interface__"):
        return True
    return hasattr(frame, "__dlpack_device__") and frame.__dlpack_device__()[0] == _DLPACK_CUDA


def geometry(shape: tuple[int, ...], format: Format | None) -> tuple[int, int, Format]:
    """Width, height and format of a frame.

    Args:
        shape: `(H, W, 3)`, `(H, W, 4)`, `(H, W)` or `(H, W, 1)`; for NV12 `(3 * H / 2, W)`.
        format: None stands for BGR, BGRA or grey, by the number of channels.

    Raises:
        InputError: the shape is none of these, or not of this format.
    """
    channels = shape[2] if len(shape) == 3 else 1
    if len(shape) not in (2, 3) or 0 in shape or channels not in (1, 3, 4):
        raise InputError(f"the frame is {shape}; expected (H, W, 3), (H, W, 4) or (H, W), and not empty")
    if format is None:
        format = {1: Format.GREY, 3: Format.BGR, 4: Format.BGRA}[channels]
    if BYTES_PER_PIXEL[format] != channels:
        raise InputError(f"the frame is {shape}, which is not {format.name}: {BYTES_PER_PIXEL[format]} bytes per pixel")
    rows, width = shape[:2]
    if format != Format.NV12:
        return width, rows, format
    if rows % 3 or width % 2:
        raise InputError(f"the frame is {shape}; NV12 is (3 * H / 2, W) with even H and W")
    return width, rows * 2 // 3, format


def image_at(
    address: int, shape: tuple[int, ...], strides: tuple[int, ...] | None, format: Format | None, owner: Any
) -> Image:
    """The frame at an address of this context; `strides` in bytes, None where rows follow each other.

    Raises InputError: its pixels do not lie side by side, or its shape is none of `geometry`.
    """
    width, height, kind = geometry(shape, format)
    size = BYTES_PER_PIXEL[kind]
    if strides is None:
        strides = (width * size, size, 1)[: len(shape)]
    side_by_side = strides[1] == size and (len(shape) == 2 or strides[2] == 1) and strides[0] >= width * size
    if not side_by_side:
        raise InputError(f"the frame's strides are {strides}: its pixels do not lie side by side; make a copy of it")
    chroma = address + height * strides[0] if kind == Format.NV12 else 0
    return Image(address, chroma, strides[0], width, height, kind, owner)


def device_image(frame: Any, format: Format | None, stream: Stream, writer: Stream | None = None) -> Image:
    """A frame that lies on the GPU, without a copy; `stream`, in which it is read, waits for what still writes it.

    `writer` is the stream that writes it, where the array does not say. None: the one that its library knows of, where
    the array can be asked (DLPack), else the default one. Raises InputError: it is not uint8, not a frame, or in
    another context.
    """
    interface = getattr(frame, "__cuda_array_interface__", None)
    # PyTorch and JAX do not state there which stream writes. Asked by DLPack, they make `stream` wait for it.
    if interface is None or (writer is None and "stream" not in interface and hasattr(frame, "__dlpack__")):
        return _by_dlpack(frame, format, stream)
    return _by_array_interface(frame, format, stream, writer)


def stream_of(stream: Any) -> Stream:
    """A stream of another library: of pycuda, CuPy, PyTorch, cuda.core, or a handle; None is the default stream.

    Raises InputError: it is none of these.
    """
    if isinstance(stream, Stream):
        return stream
    if hasattr(stream, "__cuda_stream__"):
        stream = stream.__cuda_stream__()[1]
    names = ("handle", "ptr", "cuda_stream")  # pycuda and Numba, CuPy, PyTorch
    handle = next((getattr(stream, name) for name in names if hasattr(stream, name)), stream)
    handle = getattr(handle, "value", handle)  # Numba's is of ctypes
    if handle is not None and not isinstance(handle, int):
        raise InputError(f"the stream is {type(stream).__name__}; expected one of pycuda, CuPy, PyTorch, or a handle")
    return Stream(handle or _LEGACY_STREAM)


def device_output(out: Any, shape: tuple[int, ...]) -> int:
    """The address of an array on the GPU that takes float32 results.

    Raises InputError: it is not there, of another type or shape, read-only, not contiguous, or in another context.
    """
    interface = getattr(out, "__cuda_array_interface__", None)
    if interface is None:
        raise InputError(f"out is {type(out).__name__}; expected a float32 array of torch, CuPy, pycuda, Numba")
    strides = tuple(4 * int(np.prod(shape[k + 1 :])) for k in range(len(shape)))
    seen = interface["typestr"], tuple(interface["shape"]), interface.get("strides") or strides
    if seen != ("<f4", shape, strides):
        raise InputError(f"out is {seen[0]} {seen[1]} with strides {seen[2]}; expected float32 {shape}, contiguous")
    address, read_only = interface["data"]
    if read_only:
        raise InputError("out is read-only")
    _check_context(address, "out")
    return int(address)


def _check_context(address: int, what: str) -> None:
    """Refuse memory of another context than the current one, whose kernels cannot read it."""
    owner, current = HANDLE(), HANDLE()
    # Memory of a pool belongs to no context, and memory of the system is not known: both can be read.
    if symbols()["cuPointerGetAttribute"](ctypes.byref(owner), _CONTEXT, address) or not owner.value:
        return
    call("cuCtxGetCurrent", ctypes.byref(current))
    if owner.value != current.value:
        raise InputError(
            f"{what} lies in a CUDA context of its own, as pycuda.autoinit makes one: import pycuda.autoprimaryctx "
            "instead, whose context all libraries share; or it lies on another GPU than the network: copy it there"
        )


def _by_array_interface(frame: Any, format: Format | None, stream: Stream, writer: Stream | None) -> Image:
    interface = frame.__cuda_array_interface__
    if interface["typestr"] != "|u1":
        raise InputError(f"the frame is {interface['typestr']} on the GPU; expected uint8")
    image = image_at(interface["data"][0], tuple(interface["shape"]), interface.get("strides"), format, frame)
    _check_context(image.pixels, "the frame")
    # None should say that the array is written, but pycuda says so whatever its streams still do.
    stated = interface.get("stream") if interface["version"] >= 3 else None
    stream.after(writer if stated is None and writer is not None else stream_of(stated))
    return image


class _Tensor(ctypes.Structure):
    """`DLTensor` of dlpack.h."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


def _by_dlpack(frame: Any, format: Format | None, stream: Stream) -> Image:
    capsule = frame.__dlpack__(stream=stream.address)
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    tensor = _Tensor.from_address(pointer(capsule, b"dltensor"))
    if (tensor.code, tensor.bits, tensor.lanes) != (1, 8, 1):
        raise InputError(
            f"the frame has the DLPack type {(tensor.code, tensor.bits)} on the GPU; expected uint8 (1, 8)"
        )
    shape = tuple(tensor.shape[: tensor.ndim])
    strides = tuple(tensor.strides[: tensor.ndim]) if tensor.strides else None
    # The capsule is not renamed, so it frees the tensor itself when the frame is released.
    image = image_at((tensor.data or 0) + tensor.byte_offset, shape, strides, format, (frame, capsule))
    _check_context(image.pixels, "the frame")
    return image


def host_frame(frame: Any) -> NDArray[np.uint8]:
    """A frame of the host as an array. Raises InputError: it is not uint8."""
    image = np.asarray(frame)
    if image.dtype != np.uint8:
        raise InputError(f"the frame is {image.dtype}; expected uint8")
    return image
