"""What the pipeline uses of the CUDA driver: memory, streams, events, modules and graphs.

All objects live in the device's *primary* context, which PyTorch, TensorRT, CuPy and `pycuda.autoprimaryctx` share:
their arrays and streams are used as they are. Objects free what they hold when they are collected.
"""

from __future__ import annotations

import ctypes
import gc
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..errors import BackendError
from .library import ADDRESS, HANDLE, INT, SIZE, CudaError, call, symbols

_COMPUTE_MAJOR, _COMPUTE_MINOR, _INTEGRATED = 75, 76, 18
_MAPPED, _NON_BLOCKING, _THREAD_LOCAL, _RELAXED, _NO_TIMING = 2, 1, 1, 2, 2
# An image that this driver or GPU cannot load, though another image may do.
_IMAGE = {200, 209, 218, 221, 222, 223}


def _own(owner: object, symbol: str, handle: Any) -> None:
    """Free a handle when its owner is collected, in the context that it was made in."""
    context = HANDLE()
    call("cuCtxGetCurrent", ctypes.byref(context))
    weakref.finalize(owner, _release, symbols(), context, symbol, handle)


def _release(functions: dict[str, Callable[..., int]], context: ctypes.c_void_p, symbol: str, handle: Any) -> None:
    # No status is checked: at the end of the process, or after a fault, the context may be gone before its buffers.
    # The collector may come by while this thread captures for another library, or another thread does: what is freed in
    # the middle ends such a capture, unless this thread says that it has nothing to do with it.
    before, mode = HANDLE(), INT(_RELAXED)
    functions["cuCtxGetCurrent"](ctypes.byref(before))
    functions["cuCtxSetCurrent"](context)
    functions["cuThreadExchangeStreamCaptureMode"](ctypes.byref(mode))
    functions[symbol](handle)
    functions["cuThreadExchangeStreamCaptureMode"](ctypes.byref(mode))
    functions["cuCtxSetCurrent"](before)


_one_capture = threading.Lock()


@contextmanager
def exclusive_capture() -> Iterator[None]:
    """Allow one capture at a time, ours or a library's, and no garbage collection while it lasts.

    What the collector frees, of whatever library, ends a capture of this thread; and PyTorch waits for the whole device
    before it captures, which ends those of other threads.
    """
    with _one_capture:
        collects = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if collects:
                gc.enable()


class Memory:
    """A buffer on the device: `address` and `size` in bytes. Freed when collected."""

    def __init__(self, size: int) -> None:
        address = ADDRESS()
        call("cuMemAlloc_v2", ctypes.byref(address), max(size, 1))
        self.address, self.size = int(address.value), size
        _own(self, "cuMemFree_v2", self.address)


class Pinned:
    """A buffer of the host that the device copies from and to by itself: `array` is its content.

    `address` is where the device sees it: on a Jetson, whose memory is shared, kernels read it there without a copy.
    """

    def __init__(self, shape: Sequence[int], dtype: DTypeLike) -> None:
        kind = np.dtype(dtype)
        size = max(int(np.prod(shape)) * kind.itemsize, 1)
        host = HANDLE()
        call("cuMemHostAlloc", ctypes.byref(host), size, _MAPPED)
        self.host = int(host.value or 0)
        bytes_ = np.ctypeslib.as_array(ctypes.cast(host, ctypes.POINTER(ctypes.c_uint8)), (size,))
        self.array: NDArray[Any] = bytes_[: int(np.prod(shape)) * kind.itemsize].view(kind).reshape(shape)
        address = ADDRESS()
        call("cuMemHostGetDevicePointer_v2", ctypes.byref(address), host, 0)
        self.address, self.size = int(address.value), self.array.nbytes
        _own(self, "cuMemFreeHost", host)


class Event:
    """A point in a stream."""

    def __init__(self, timed: bool = False) -> None:
        self.handle = HANDLE()
        call("cuEventCreate", ctypes.byref(self.handle), 0 if timed else _NO_TIMING)
        _own(self, "cuEventDestroy_v2", self.handle)

    def synchronize(self) -> None:
        """Wait until the stream has passed it."""
        call("cuEventSynchronize", self.handle)

    def ms_since(self, earlier: Event) -> float:
        """Time from another event to this one; both are timed."""
        ms = ctypes.c_float()
        call("cuEventElapsedTime", ctypes.byref(ms), earlier.handle, self.handle)
        return ms.value


class Module:
    """Compiled kernels: the first of some images that this driver loads.

    Raises:
        BackendError: none does.
    """

    def __init__(self, images: Sequence[bytes]) -> None:
        self.handle, refused = HANDLE(), []
        for image in images:
            try:
                call("cuModuleLoadData", ctypes.byref(self.handle), image)
                break
            except CudaError as error:
                if error.code not in _IMAGE:
                    raise
                refused.append(str(error))
        else:
            raise BackendError(f"this driver loads none of the kernels: {'; '.join(refused)}. Install a newer driver")
        _own(self, "cuModuleUnload", self.handle)


class Kernel:
    """A kernel of a module by its name, with one argument: a struct."""

    def __init__(self, module: Module, name: str) -> None:
        self._module, self.handle = module, HANDLE()  # it is unloaded with its module
        call("cuModuleGetFunction", ctypes.byref(self.handle), module.handle, name.encode())


class Graph:
    """Work that was captured from a stream, to be launched as one."""

    def __init__(self, captured: ctypes.c_void_p) -> None:
        self.handle = HANDLE()
        try:
            call("cuGraphInstantiateWithFlags", ctypes.byref(self.handle), captured, 0)
        finally:
            symbols()["cuGraphDestroy"](captured)
        _own(self, "cuGraphExecDestroy", self.handle)

    def launch(self, stream: Stream) -> None:
        """Run it behind what the stream holds."""
        call("cuGraphLaunch", self.handle, stream.handle)


class Stream:
    """A queue of work. With a `handle` it is another library's stream, which that library destroys."""

    def __init__(self, handle: int | None = None) -> None:
        self.handle = HANDLE(handle)
        self._mark: Event | None = None
        if handle is None:
            call("cuStreamCreate", ctypes.byref(self.handle), _NON_BLOCKING)
            _own(self, "cuStreamDestroy_v2", self.handle)
            self._mark = Event()  # kept, because making one for each frame takes longer than the rest of `after`

    @property
    def address(self) -> int:
        """The handle as a number, as other libraries take it."""
        return int(self.handle.value or 0)

    def upload(self, target: int, source: Pinned, size: int) -> None:
        """Copy the first `size` bytes to an address of the device."""
        call("cuMemcpyHtoDAsync_v2", target, source.host, size, self.handle)

    def download(self, target: Pinned, source: int, size: int) -> None:
        """Copy `size` bytes from an address of the device."""
        call("cuMemcpyDtoHAsync_v2", target.host, source, size, self.handle)

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy within the device."""
        call("cuMemcpyDtoDAsync_v2", target, source, size, self.handle)

    def clear(self, target: int, size: int) -> None:
        """Set bytes of the device to zero."""
        call("cuMemsetD8Async", target, 0, size, self.handle)

    def launch(self, kernel: Kernel, grid: Sequence[int], block: Sequence[int], arguments: ctypes.Structure) -> None:
        """Run a kernel; `arguments` are copied at once."""
        pointers = (HANDLE * 1)(ctypes.addressof(arguments))
        call("cuLaunchKernel", kernel.handle, *grid, *block, 0, self.handle, pointers, None)

    def record(self, event: Event) -> None:
        """Put an event behind what the stream holds."""
        call("cuEventRecord", event.handle, self.handle)

    def wait(self, event: Event) -> None:
        """Let what follows wait for an event of another stream."""
        call("cuStreamWaitEvent", self.handle, event.handle, 0)

    def after(self, earlier: Stream) -> None:
        """Let what follows wait for all that another stream holds now; one of the two is not shared with others."""
        if self.address == earlier.address:
            return
        mark = self._mark or earlier._mark or Event()
        earlier.record(mark)
        self.wait(mark)

    def synchronize(self) -> None:
        """Wait until the stream is empty."""
        call("cuStreamSynchronize", self.handle)

    @contextmanager
    def capture(self) -> Iterator[Callable[[], Graph]]:
        """Record what is put into the stream instead of running it; afterwards the yielded function makes the graph."""
        captured, whole = HANDLE(), False

        def finish() -> Graph:
            assert whole, "the graph is made after the block"
            return Graph(captured)

        with exclusive_capture():
            call("cuStreamBeginCapture_v2", self.handle, _THREAD_LOCAL)
            try:
                yield finish
            except BaseException:
                # end the capture, and raise the first error
                symbols()["cuStreamEndCapture"](self.handle, ctypes.byref(captured))
                raise
            call("cuStreamEndCapture", self.handle, ctypes.byref(captured))
            whole = True


class Device:
    """The first GPU that CUDA_VISIBLE_DEVICES shows, and its primary context.

    Raises:
        BackendError: there is no driver, or no GPU.
    """

    def __init__(self) -> None:
        handle = INT()
        call("cuDeviceGet", ctypes.byref(handle), 0)
        self._handle = handle.value
        name = ctypes.create_string_buffer(256)
        call("cuDeviceGetName", name, len(name), self._handle)
        self.name = name.value.decode()
        self.capability = (self._attribute(_COMPUTE_MAJOR), self._attribute(_COMPUTE_MINOR))
        self.integrated = bool(self._attribute(_INTEGRATED))
        version = INT()
        call("cuDriverGetVersion", ctypes.byref(version))
        self.driver = (version.value // 1000, version.value % 1000 // 10)
        self._context = HANDLE()
        # Retained for the life of the process: other libraries in it share the context.
        call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._handle)

    def _attribute(self, which: int) -> int:
        value = INT()
        call("cuDeviceGetAttribute", ctypes.byref(value), which, self._handle)
        return value.value

    @contextmanager
    def active(self) -> Iterator[None]:
        """The context, current in this thread; the one that was, is again afterwards."""
        before = HANDLE()
        call("cuCtxGetCurrent", ctypes.byref(before))
        if before.value != self._context.value:
            call("cuCtxSetCurrent", self._context)
        try:
            yield
        finally:
            if before.value != self._context.value:
                symbols()["cuCtxSetCurrent"](before)

    def memory(self) -> tuple[int, int]:
        """Bytes that are free, and all; the context has to be active."""
        free, total = SIZE(), SIZE()
        call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value
