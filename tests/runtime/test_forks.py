"""After os.fork() the threads of an inference library are not there: an error in place of a hang, and new ones work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")

# The child has 100 s, which is for busy machines: a hang has no end.
SCRIPT = """
import os, signal, sys, threading
import numpy as np
from posert.runtime import PoseEstimator

path, backend, throughput, before, child = sys.argv[1:]
frame = np.random.default_rng(0).integers(0, 255, (64, 48, 3), dtype=np.uint8)

def new():
    return PoseEstimator(path, backend=backend, threads=None, throughput=throughput == "throughput")

p = new()
expected = p(frame).xy
stream = p.stream([(frame, None)] * 9)
if before == "stream":
    list(p.stream([(frame, None)] * 3))
if before == "half":
    next(stream)
if before == "closed":  # as a process does that looks at a bundle before it forks
    p = stream = None
if before == "locked":
    p._lock.acquire()
if pid := os.fork():
    os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 255)
signal.alarm(100)
try:
    if child == "call":
        p(frame)
    elif child == "stream":
        next(p.stream([(frame, None)] * 3))
    elif child == "half":
        next(stream)
    elif child == "outputs":
        p.outputs(frame)
    elif child == "session":
        p.session.infer(np.zeros((1, 128, 96, 3), np.uint8))
    elif child == "new":
        p = new()  # the parent's is released
        assert np.array_equal(p(frame).xy, expected)
        assert np.array_equal([one.xy for one in p.stream([(frame, None)] * 3)], [expected] * 3)
except Exception as error:
    print(f"{type(error).__name__}: {error}", flush=True)
    if child == "new" or before == "half":
        os._exit(9)
    p = stream = None
sys.exit(7)
"""


def run(bundle: Path, backend: str, mode: str, before: str, child: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(bundle), backend, mode, before, child], capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("backend", "mode", "before", "child"),
    [
        *(("openvino", mode, "call", child) for mode in ("latency", "throughput") for child in ("call", "stream")),
        ("openvino", "throughput", "stream", "outputs"),
        ("openvino", "throughput", "call", "session"),
        ("openvino", "latency", "locked", "call"),
        ("torchscript", "latency", "call", "call"),
    ],
)
def test_a_forked_estimator_says_what_to_do(
    narrow_bundle: Path, backend: str, mode: str, before: str, child: str
) -> None:
    status, said = run(narrow_bundle, backend, mode, before, child)
    assert said.startswith("BackendError: ") and "this process was forked from process " in said and "spawn" in said
    # the worker of a web server ends by sys.exit, where what the parent opened would be destroyed
    assert status == 7


def test_a_stream_that_the_parent_began(narrow_bundle: Path) -> None:
    status, said = run(narrow_bundle, "openvino", "throughput", "half", "half")
    assert status == 9 and said.startswith("BackendError: ") and "this process was forked" in said


@pytest.mark.parametrize("mode", ["latency", "throughput"])
def test_a_child_that_uses_nothing_exits(narrow_bundle: Path, mode: str) -> None:
    assert run(narrow_bundle, "openvino", mode, "stream", "nothing") == (7, "")


@pytest.mark.parametrize("before", ["call", "stream", "half", "locked"])
def test_a_new_estimator_in_the_child_works(narrow_bundle: Path, before: str) -> None:
    assert run(narrow_bundle, "openvino", "throughput", before, "new") == (7, "")


@pytest.mark.parametrize("mode", ["latency", "throughput"])
def test_after_one_that_was_closed_a_new_one_says_what_to_do(narrow_bundle: Path, mode: str) -> None:
    """OpenVINO keeps the threads of a network that is closed, and would wait for them in the child."""
    status, said = run(narrow_bundle, "openvino", mode, "closed", "new")
    assert status == 9 and said.startswith("BackendError: ") and "which had closed a network in OpenVINO" in said


def test_pytorch_cannot_run_in_the_child(narrow_bundle: Path) -> None:
    status, said = run(narrow_bundle, "torchscript", "latency", "call", "new")
    assert status == 9 and "PyTorch ran in process " in said and "threads=1" in said
