"""The CUDA driver, as far as the pipeline needs it: memory, streams, events, modules and graphs.

It is called through ctypes, so a machine with a GPU needs no CUDA package and no compiler beside its driver. All
objects live in the device's *primary* context, which PyTorch, TensorRT, CuPy and `pycuda.autoprimaryctx` share: their
arrays and streams are used as they are. Objects free what they hold when they are collected.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import logging
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..errors import BackendError

log = logging.getLogger("posert")

LIBRARY = "POSERT_LIBCUDA"
"""Environment variable with the path of the driver's library, where the loader does not find it."""

_OUT_OF_MEMORY = 2
_IN_CAPTURE = 900  # to 908: something that a capture does not allow
# After these the context is lost, and with it every buffer: only a new process helps.
_LOST = {46, 214, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 720, 721, 999}
# An image that this driver or GPU cannot load, though another image may do.
_IMAGE = {200, 209, 218, 221, 222, 223}

_HANDLE, _SIZE, _INT, _UINT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_uint
_ADDRESS = ctypes.c_uint64
_OUT = ctypes.POINTER
# Names with their version suffix, as cuda.h maps them; all are there since CUDA 11.4.
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuInit": (_UINT,),
    "cuDriverGetVersion": (_OUT(_INT),),
    "cuGetErrorName": (_INT, _OUT(ctypes.c_char_p)),
    "cuGetErrorString": (_INT, _OUT(ctypes.c_char_p)),
    "cuDeviceGetCount": (_OUT(_INT),),
    "cuDeviceGet": (_OUT(_INT), _INT),
    "cuDeviceGetName": (ctypes.c_char_p, _INT, _INT),
    "cuDeviceGetAttribute": (_OUT(_INT), _INT, _INT),
    "cuDevicePrimaryCtxRetain": (_OUT(_HANDLE), _INT),
    "cuCtxGetCurrent": (_OUT(_HANDLE),),
    "cuCtxSetCurrent": (_HANDLE,),
    "cuMemGetInfo_v2": (_OUT(_SIZE), _OUT(_SIZE)),
    "cuMemAlloc_v2": (_OUT(_ADDRESS), _SIZE),
    "cuMemFree_v2": (_ADDRESS,),
    "cuMemHostAlloc": (_OUT(_HANDLE), _SIZE, _UINT),
    "cuMemHostGetDevicePointer_v2": (_OUT(_ADDRESS), _HANDLE, _UINT),
    "cuMemFreeHost": (_HANDLE,),
    "cuMemcpyHtoDAsync_v2": (_ADDRESS, _HANDLE, _SIZE, _HANDLE),
    "cuMemcpyDtoHAsync_v2": (_HANDLE, _ADDRESS, _SIZE, _HANDLE),
    "cuMemcpyDtoDAsync_v2": (_ADDRESS, _ADDRESS, _SIZE, _HANDLE),
    "cuMemsetD8Async": (_ADDRESS, ctypes.c_ubyte, _SIZE, _HANDLE),
    "cuStreamCreate": (_OUT(_HANDLE), _UINT),
    "cuStreamDestroy_v2": (_HANDLE,),
    "cuStreamSynchronize": (_HANDLE,),
    "cuStreamWaitEvent": (_HANDLE, _HANDLE, _UINT),
    "cuStreamBeginCapture_v2": (_HANDLE, _INT),
    "cuStreamEndCapture": (_HANDLE, _OUT(_HANDLE)),
    "cuGraphInstantiateWithFlags": (_OUT(_HANDLE), _HANDLE, ctypes.c_ulonglong),
    "cuGraphLaunch": (_HANDLE, _HANDLE),
    "cuGraphDestroy": (_HANDLE,),
    "cuGraphExecDestroy": (_HANDLE,),
    "cuEventCreate": (_OUT(_HANDLE), _UINT),
    "cuEventRecord": (_HANDLE, _HANDLE),
    "cuEventSynchronize": (_HANDLE,),
    "cuEventElapsedTime": (_OUT(ctypes.c_float), _HANDLE, _HANDLE),
    "cuEventDestroy_v2": (_HANDLE,),
    "cuModuleLoadData": (_OUT(_HANDLE), ctypes.c_char_p),
    "cuModuleUnload": (_HANDLE,),
    "cuModuleGetFunction": (_OUT(_HANDLE), _HANDLE, ctypes.c_char_p),
    "cuLaunchKernel": (_HANDLE, *[_UINT] * 7, _HANDLE, _OUT(_HANDLE), _OUT(_HANDLE)),
}
_COMPUTE_MAJOR, _COMPUTE_MINOR, _INTEGRATED = 75, 76, 18
_MAPPED, _NON_BLOCKING, _THREAD_LOCAL, _NO_TIMING = 2, 1, 1, 2


class CudaError(BackendError):
    """The driver refused a call. `code` is its CUresult."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def missing() -> str | None:
    """Why no GPU can be used here, in a sentence with what mends it; None where one can."""
    try:
        _driver()
    except BackendError as error:
        return str(error)
    return None


@cache
def _driver() -> dict[str, Callable[..., int]]:
    """The driver's functions, after cuInit."""
    names = [os.environ.get(LIBRARY), "libcuda.so.1", ctypes.util.find_library("cuda"), "nvcuda.dll"]
    for name in dict.fromkeys(n for n in names if n):
        try:
            library = ctypes.CDLL(name)
            break
        except OSError:
            continue
    else:
        raise BackendError(
            "no NVIDIA driver here (libcuda.so.1 does not load): install the driver, in a container run with --gpus "
            f"all, or set {LIBRARY} to its path. CPU backends work without: --backend openvino"
        )
    functions: dict[str, Callable[..., int]] = {}
    for symbol, types in _SIGNATURES.items():
        try:
            function = getattr(library, symbol)
        except AttributeError:
            raise BackendError(
                f"this NVIDIA driver has no {symbol}: it is older than CUDA 11.4; install a newer driver"
            ) from None
        function.argtypes, function.restype = types, _INT
        functions[symbol] = function
    status = functions["cuInit"](0)
    if status:
        reason = "no GPU is visible" if status == 100 else "it cannot be initialised"
        raise BackendError(
            f"an NVIDIA driver is here, but {reason} ({_name(functions, status)}). Check nvidia-smi and "
            "CUDA_VISIBLE_DEVICES; after a driver update the machine has to be restarted"
        )
    return functions


def _name(functions: dict[str, Callable[..., int]], status: int) -> str:
    name, text = ctypes.c_char_p(), ctypes.c_char_p()
    functions["cuGetErrorName"](status, ctypes.byref(name))
    functions["cuGetErrorString"](status, ctypes.byref(text))
    return f"{(name.value or b'').decode() or status}: {(text.value or b'').decode()}"


def _call(symbol: str, *arguments: Any) -> None:
    functions = _driver()
    status = functions[symbol](*arguments)
    if not status:
        return
    message = f"{symbol} failed with {_name(functions, status)}"
    if status == _OUT_OF_MEMORY:
        message += ". The GPU's memory is full: close what else uses it (nvidia-smi), or take smaller batches"
    elif status in _LOST:
        message += ". The GPU was reset or a kernel failed: its context is lost. Start the process anew"
    elif _IN_CAPTURE <= status <= _IN_CAPTURE + 8:
        message += ". The network does something that a CUDA graph cannot hold"
    raise CudaError(message, status)


def _own(owner: object, symbol: str, handle: Any) -> None:
    """Free a handle when its owner is collected, in the context that it was made in."""
    context = _HANDLE()
    _call("cuCtxGetCurrent", ctypes.byref(context))
    weakref.finalize(owner, _release, _driver(), context, symbol, handle)


def _release(functions: dict[str, Callable[..., int]], context: ctypes.c_void_p, symbol: str, handle: Any) -> None:
    # No status is checked: at the end of the process, or after a fault, the context may be gone before its buffers.
    before = _HANDLE()
    functions["cuCtxGetCurrent"](ctypes.byref(before))
    functions["cuCtxSetCurrent"](context)
    functions[symbol](handle)
    functions["cuCtxSetCurrent"](before)


class Memory:
    """A buffer on the device: `address` and `size` in bytes. Freed when collected."""

    def __init__(self, size: int) -> None:
        address = _ADDRESS()
        _call("cuMemAlloc_v2", ctypes.byref(address), max(size, 1))
        self.address, self.size = int(address.value), size
        _own(self, "cuMemFree_v2", self.address)


class Pinned:
    """A buffer of the host that the device copies from and to by itself: `array` is its content.

    `address` is where the device sees it: on a Jetson, whose memory is shared, kernels read it there without a copy.
    """

    def __init__(self, shape: Sequence[int], dtype: DTypeLike) -> None:
        kind = np.dtype(dtype)
        size = max(int(np.prod(shape)) * kind.itemsize, 1)
        host = _HANDLE()
        _call("cuMemHostAlloc", ctypes.byref(host), size, _MAPPED)
        self.host = int(host.value or 0)
        bytes_ = np.ctypeslib.as_array(ctypes.cast(host, ctypes.POINTER(ctypes.c_uint8)), (size,))
        self.array: NDArray[Any] = bytes_[: int(np.prod(shape)) * kind.itemsize].view(kind).reshape(shape)
        address = _ADDRESS()
        _call("cuMemHostGetDevicePointer_v2", ctypes.byref(address), host, 0)
        self.address, self.size = int(address.value), self.array.nbytes
        _own(self, "cuMemFreeHost", host)


class Event:
    """A point in a stream."""

    def __init__(self, timed: bool = False) -> None:
        handle = _HANDLE()
        _call("cuEventCreate", ctypes.byref(handle), 0 if timed else _NO_TIMING)
        self.handle = handle
        _own(self, "cuEventDestroy_v2", handle)

    def synchronize(self) -> None:
        """Wait until the stream has passed it."""
        _call("cuEventSynchronize", self.handle)

    def ms_since(self, earlier: Event) -> float:
        """Time from another event to this one; both are timed."""
        ms = ctypes.c_float()
        _call("cuEventElapsedTime", ctypes.byref(ms), earlier.handle, self.handle)
        return ms.value


class Kernel:
    """A kernel with one argument, a struct."""

    def __init__(self, module: Module, name: str) -> None:
        self._module, handle = module, _HANDLE()  # the kernel lives as long as its module
        _call("cuModuleGetFunction", ctypes.byref(handle), module.handle, name.encode())
        self.handle = handle


class Module:
    """Compiled kernels: the first of some images that this driver loads.

    Raises:
        BackendError: none does.
    """

    def __init__(self, images: Sequence[bytes]) -> None:
        handle, refused = _HANDLE(), []
        for image in images:
            try:
                _call("cuModuleLoadData", ctypes.byref(handle), image)
                break
            except CudaError as error:
                if error.code not in _IMAGE:
                    raise
                refused.append(str(error))
        else:
            raise BackendError(f"this driver loads none of the kernels: {'; '.join(refused)}. Install a newer driver")
        self.handle = handle
        _own(self, "cuModuleUnload", handle)

    def kernel(self, name: str) -> Kernel:
        """A kernel by its name."""
        return Kernel(self, name)


class Graph:
    """Work that was captured from a stream, to be launched as one."""

    def __init__(self, captured: ctypes.c_void_p) -> None:
        handle = _HANDLE()
        try:
            _call("cuGraphInstantiateWithFlags", ctypes.byref(handle), captured, 0)
        finally:
            _driver()["cuGraphDestroy"](captured)
        self.handle = handle
        _own(self, "cuGraphExecDestroy", handle)

    def launch(self, stream: Stream) -> None:
        """Run it behind what the stream holds."""
        _call("cuGraphLaunch", self.handle, stream.handle)


class Stream:
    """A queue of work. `handle` of another library's stream makes it ours as well; it stays theirs to destroy."""

    def __init__(self, handle: int | None = None) -> None:
        self.handle = _HANDLE(handle)
        if handle is None:
            _call("cuStreamCreate", ctypes.byref(self.handle), _NON_BLOCKING)
            _own(self, "cuStreamDestroy_v2", self.handle)

    @property
    def address(self) -> int:
        """The handle as a number, as other libraries take it."""
        return int(self.handle.value or 0)

    def upload(self, target: int, source: Pinned, size: int) -> None:
        """Copy the first `size` bytes to an address of the device."""
        _call("cuMemcpyHtoDAsync_v2", target, source.host, size, self.handle)

    def download(self, target: Pinned, source: int, size: int) -> None:
        """Copy `size` bytes from an address of the device."""
        _call("cuMemcpyDtoHAsync_v2", target.host, source, size, self.handle)

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy within the device."""
        _call("cuMemcpyDtoDAsync_v2", target, source, size, self.handle)

    def clear(self, target: int, size: int) -> None:
        """Set bytes of the device to zero."""
        _call("cuMemsetD8Async", target, 0, size, self.handle)

    def launch(self, kernel: Kernel, grid: Sequence[int], block: Sequence[int], arguments: ctypes.Structure) -> None:
        """Run a kernel; `arguments` are copied at once."""
        pointers = (_HANDLE * 1)(ctypes.addressof(arguments))
        _call("cuLaunchKernel", kernel.handle, *grid, *block, 0, self.handle, pointers, None)

    def record(self, event: Event) -> None:
        """Put an event behind what the stream holds."""
        _call("cuEventRecord", event.handle, self.handle)

    def wait(self, event: Event) -> None:
        """Let what follows wait for an event of another stream."""
        _call("cuStreamWaitEvent", self.handle, event.handle, 0)

    def synchronize(self) -> None:
        """Wait until the stream is empty."""
        _call("cuStreamSynchronize", self.handle)

    @contextmanager
    def capture(self) -> Iterator[Callable[[], Graph]]:
        """Record what is put into the stream instead of running it; afterwards the yielded function makes the graph."""
        captured, whole = _HANDLE(), False

        def finish() -> Graph:
            assert whole, "the graph is made after the block"
            return Graph(captured)

        _call("cuStreamBeginCapture_v2", self.handle, _THREAD_LOCAL)
        try:
            yield finish
        except BaseException:
            # the stream leaves the capture, and the first error is the one that is told
            _driver()["cuStreamEndCapture"](self.handle, ctypes.byref(captured))
            raise
        _call("cuStreamEndCapture", self.handle, ctypes.byref(captured))
        whole = True


class Device:
    """A GPU and its primary context.

    Raises:
        BackendError: there is no driver, or no such GPU.
    """

    def __init__(self, index: int = 0) -> None:
        count, handle = _INT(), _INT()
        _call("cuDeviceGetCount", ctypes.byref(count))
        if not 0 <= index < count.value:
            raise BackendError(f"GPU {index}: this machine shows {count.value}, counted from 0; see nvidia-smi")
        self.index = index
        _call("cuDeviceGet", ctypes.byref(handle), index)
        self._handle = handle.value
        name = ctypes.create_string_buffer(256)
        _call("cuDeviceGetName", name, len(name), self._handle)
        self.name = name.value.decode()
        self.capability = (self._attribute(_COMPUTE_MAJOR), self._attribute(_COMPUTE_MINOR))
        self.integrated = bool(self._attribute(_INTEGRATED))
        version = _INT()
        _call("cuDriverGetVersion", ctypes.byref(version))
        self.driver = (version.value // 1000, version.value % 1000 // 10)
        self._context = _HANDLE()
        # Retained for the life of the process: other libraries in it share the context.
        _call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._handle)

    def _attribute(self, which: int) -> int:
        value = _INT()
        _call("cuDeviceGetAttribute", ctypes.byref(value), which, self._handle)
        return value.value

    @contextmanager
    def active(self) -> Iterator[None]:
        """The context, current in this thread; the one that was, is again afterwards."""
        before = _HANDLE()
        _call("cuCtxGetCurrent", ctypes.byref(before))
        if before.value != self._context.value:
            _call("cuCtxSetCurrent", self._context)
        try:
            yield
        finally:
            if before.value != self._context.value:
                _driver()["cuCtxSetCurrent"](before)

    def memory(self) -> tuple[int, int]:
        """Bytes that are free, and all; the context has to be active."""
        free, total = _SIZE(), _SIZE()
        _call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value
