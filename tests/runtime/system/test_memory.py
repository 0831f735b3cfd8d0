"""Memory is that of the process asked about, in units of 1,000,000 bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from posert.runtime.system.memory import peak_mb, resident_mb

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")


@linux
def test_what_a_process_has_now() -> None:
    """Against the kernel's other count, in pages."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    seen = resident_mb(os.getpid())
    assert seen == pytest.approx(pages * os.sysconf("SC_PAGESIZE") / 1e6, abs=2)  # which grows while it is asked


@linux
def test_who_has_ended_has_none() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert resident_mb(child.pid) is None


def test_the_peak_is_this_programs_and_not_its_parents() -> None:
    block = bytearray(os.urandom(1 << 10)) * (300 << 10)  # the parent's own
    script = "from posert.runtime.system.memory import peak_mb; block = bytearray(b'x') * {}; print(peak_mb())"
    small, large = (
        float(subprocess.run([sys.executable, "-c", script.format(n)], capture_output=True, text=True).stdout)
        for n in (0, 200_000_000)
    )
    mine = peak_mb()
    assert mine is not None and mine > len(block) / 1e6 > small
    assert large - small == pytest.approx(200, abs=3)  # the interpreter itself differs by a MB or two
