"""Memory that is freed, but kept by the C library."""

from __future__ import annotations

import contextlib
import ctypes
import gc


def trim_heap() -> None:
    """Return freed memory to the system, where the C library is glibc; elsewhere nothing happens.

    glibc keeps freed blocks of up to 32 MB, which is what weights are made of: after a few steps as much as three
    copies of a network. Measured on mspn_50_2: 1.7 GB before, 1.2 GB after.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
