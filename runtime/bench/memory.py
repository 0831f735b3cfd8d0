"""Resident memory of a process as its system tells it, in MB of 1,000,000 bytes; the kB of Linux are of 1024."""

from __future__ import annotations

import sys
from pathlib import Path


def peak_mb() -> float | None:
    """The most that this process has had; None where the system does not tell.

    On Linux from the kernel's note of this program: `getrusage` there remembers what the parent had at the fork.
    """
    noted = _noted("self", "VmHWM")
    if noted is not None:
        return noted
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def resident_mb(process: int) -> float | None:
    """What a process has now; None where it has ended, or the system is not Linux."""
    return _noted(str(process), "VmRSS")


def _noted(process: str, name: str) -> float | None:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{name}:")), None)
