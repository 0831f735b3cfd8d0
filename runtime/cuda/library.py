"""The CUDA driver's library: loaded once, called by the names of its functions.

It is called through ctypes, so a machine with a GPU needs no CUDA package and no compiler beside its driver.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from typing import Any

from ..errors import BackendError

LIBRARY = "POSERT_LIBCUDA"
"""Environment variable with the path of the driver's library, where the loader does not find it."""

_FULL = 2
_CAPTURING = 900  # to 908: something that a capture does not allow
# After these the context is lost, and with it every buffer: only a new process helps.
_LOST = {214, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 999}

HANDLE, SIZE, INT, UINT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_uint
ADDRESS = ctypes.c_uint64
OUT = ctypes.POINTER
# Names with their version suffix, as cuda.h maps them; all are there since CUDA 11.4.
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuInit": (UINT,),
    "cuDriverGetVersion": (OUT(INT),),
    "cuGetErrorName": (INT, OUT(ctypes.c_char_p)),
    "cuGetErrorString": (INT, OUT(ctypes.c_char_p)),
    "cuDeviceGet": (OUT(INT), INT),
    "cuDeviceGetName": (ctypes.c_char_p, INT, INT),
    "cuDeviceGetAttribute": (OUT(INT), INT, INT),
    "cuDevicePrimaryCtxRetain": (OUT(HANDLE), INT),
    "cuCtxGetCurrent": (OUT(HANDLE),),
    "cuCtxSetCurrent": (HANDLE,),
    "cuMemGetInfo_v2": (OUT(SIZE), OUT(SIZE)),
    "cuMemAlloc_v2": (OUT(ADDRESS), SIZE),
    "cuMemFree_v2": (ADDRESS,),
    "cuMemHostAlloc": (OUT(HANDLE), SIZE, UINT),
    "cuMemHostGetDevicePointer_v2": (OUT(ADDRESS), HANDLE, UINT),
    "cuMemFreeHost": (HANDLE,),
    "cuMemcpyHtoDAsync_v2": (ADDRESS, HANDLE, SIZE, HANDLE),
    "cuMemcpyDtoHAsync_v2": (HANDLE, ADDRESS, SIZE, HANDLE),
    "cuMemcpyDtoDAsync_v2": (ADDRESS, ADDRESS, SIZE, HANDLE),
    "cuPointerGetAttribute": (HANDLE, INT, ADDRESS),
    "cuMemsetD8Async": (ADDRESS, ctypes.c_ubyte, SIZE, HANDLE),
    "cuStreamCreate": (OUT(HANDLE), UINT),
    "cuStreamDestroy_v2": (HANDLE,),
    "cuStreamSynchronize": (HANDLE,),
    "cuStreamWaitEvent": (HANDLE, HANDLE, UINT),
    "cuStreamBeginCapture_v2": (HANDLE, INT),
    "cuStreamEndCapture": (HANDLE, OUT(HANDLE)),
    "cuThreadExchangeStreamCaptureMode": (OUT(INT),),
    "cuGraphInstantiateWithFlags": (OUT(HANDLE), HANDLE, ctypes.c_ulonglong),
    "cuGraphLaunch": (HANDLE, HANDLE),
    "cuGraphDestroy": (HANDLE,),
    "cuGraphExecDestroy": (HANDLE,),
    "cuEventCreate": (OUT(HANDLE), UINT),
    "cuEventRecord": (HANDLE, HANDLE),
    "cuEventSynchronize": (HANDLE,),
    "cuEventElapsedTime": (OUT(ctypes.c_float), HANDLE, HANDLE),
    "cuEventDestroy_v2": (HANDLE,),
    "cuModuleLoadData": (OUT(HANDLE), ctypes.c_char_p),
    "cuModuleUnload": (HANDLE,),
    "cuModuleGetFunction": (OUT(HANDLE), HANDLE, ctypes.c_char_p),
    "cuLaunchKernel": (HANDLE, *[UINT] * 7, HANDLE, OUT(HANDLE), OUT(HANDLE)),
}


class CudaError(BackendError):
    """The driver refused a call. `code` is its CUresult."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def missing() -> str | None:
    """Why no GPU can be used here, in a sentence with what fixes it; None where one can."""
    try:
        symbols()
    except BackendError as error:
        return str(error)
    return None


@cache
def symbols() -> dict[str, Callable[..., int]]:
    """The driver's functions, after cuInit."""
    for name in filter(None, (os.environ.get(LIBRARY), "libcuda.so.1", "nvcuda.dll")):
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
        function.argtypes, function.restype = types, INT
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


def call(symbol: str, *arguments: Any) -> None:
    """Call a function of the driver. Raises CudaError: it does not return 0; BackendError where there is no driver."""
    known = symbols()
    status = known[symbol](*arguments)
    if not status:
        return
    message = f"{symbol} failed with {_name(known, status)}"
    if status == _FULL:
        message += ". The GPU's memory is full: close what else uses it (nvidia-smi), or take smaller batches"
    elif status in _LOST:
        message += ". The GPU was reset or a kernel failed: its context is lost. Restart the process"
    elif _CAPTURING <= status <= _CAPTURING + 8:
        message += ". The network does something that a CUDA graph cannot hold"
    raise CudaError(message, status)
