"""Verdicts of `posert bench --against` on this machine: a program against itself, and against itself made slower."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from posert.runtime.bench.compare import compare
from posert.runtime.bench.measure import Settings, Side
from posert.runtime.bench.sweep import sweep

pytest.importorskip("openvino")

# Makes every end-to-end call 10 % longer. It computes for a share of what the call computed, on one processor: where
# other programs interrupt, they interrupt both alike, which a wait by the clock would not allow for.
SLOWER = """
import dataclasses, math, time
from posert.runtime.bench import stages

class Longer:
    def __init__(self, call):
        self.call, self.fastest, self.processors = call, math.inf, 1.0

    def __call__(self):
        start, cpu = time.perf_counter(), time.process_time()
        self.call()
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        if wall < self.fastest:  # undisturbed: so many processors work at a time
            self.fastest, self.processors = wall, max(1.0, cpu / wall)
        end = time.thread_time() + 0.1 * cpu / self.processors
        while time.thread_time() < end:
            pass

plain = stages.latency

def latency(*arguments):
    return [
        dataclasses.replace(s, call=Longer(s.call)) if s.name == stages.END_TO_END else s for s in plain(*arguments)
    ]

stages.latency = latency
"""


@pytest.mark.slow
def test_the_same_is_no_different_and_a_tenth_is_slower(narrow_bundle: Path, tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text(SLOWER)
    slower = tmp_path / "python"
    slower.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    slower.chmod(0o755)
    sides = [Side(narrow_bundle), Side(narrow_bundle), Side(narrow_bundle, str(slower))]
    plain, same, slow = sweep(sides, Settings((5,), 40), [("openvino", "fp32", ["latency"])], [None] * 3)
    (unchanged,), (longer,) = compare(plain, same), compare(plain, slow)
    assert unchanged.ratio.verdict == "no difference", str(unchanged.ratio)
    assert longer.ratio.verdict == "slower", str(longer.ratio)
