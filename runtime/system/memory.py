"""Return memory that the C library keeps after it is freed."""

from __future__ import annotations

import contextlib
import ctypes
import gc


def trim_heap() -> None:
    """Return freed memory to the operating system. Does nothing where the C library is not glibc.

    glibc keeps freed blocks of up to 32 MB, the size of network weights, so a few build steps can hold three copies of
    a network. Measured on mspn_50_2: 1.7 GB before, 1.2 GB after.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
