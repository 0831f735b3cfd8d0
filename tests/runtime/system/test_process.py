"""Child processes: answers, silence, deaths, pauses and limits."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from posert.runtime.system.process import JsonProcess, ProcessError

CHILD = """
import json, os, sys, time
from posert.runtime.system.process import answer_channel
answer = answer_channel()
print("a library writes to standard output")
for line in sys.stdin:
    ask = json.loads(line)
    if "mb" in ask:
        data = bytearray(os.urandom(1)) * (ask["mb"] * 1000000)
    if "say" in ask:
        sys.stderr.write(ask["say"])
        sys.exit(3)
    if "die" in ask:
        os.abort()
    time.sleep(ask.get("sleep", 0))
    answer(got=ask)
"""
COMMAND = [sys.executable, "-c", CHILD]
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def child() -> Iterator[JsonProcess]:
    with closing(JsonProcess(COMMAND)) as process:
        yield process


def test_only_answers_are_answers(child: JsonProcess):
    assert child.ask(x=1) == {"got": {"x": 1}} and child.ask(x=[2]) == {"got": {"x": [2]}}


def test_how_it_ended_is_told(child: JsonProcess):
    with pytest.raises(ProcessError, match="^ended with status 3: the last line$") as caught:
        child.ask(say="first line\nthe last line\n")
    assert caught.value.output == "a library writes to standard output\nfirst line\nthe last line"


def test_a_signal_has_its_name(child: JsonProcess):
    with pytest.raises(ProcessError, match="^was ended by SIGABRT"):
        child.ask(die=True)


def test_silence_is_an_error():
    with (
        closing(JsonProcess(COMMAND, patience=0.2)) as process,
        pytest.raises(ProcessError, match="did not answer within 0.2 s"),
    ):
        process.ask(sleep=60)


@linux
def test_too_much_memory_ends_it():
    with closing(JsonProcess(COMMAND, memory_gb=0.1)) as process:
        assert process.ask(mb=1)["got"]["mb"] == 1
        with pytest.raises(ProcessError, match=r"was ended at 0\.\d GB of memory; the limit is 0\.1 GB"):
            process.ask(mb=400, sleep=30)


@linux
def test_who_waits_takes_no_time():
    """A paused process is stopped between its answers, also before the first request."""
    with closing(JsonProcess(COMMAND, paused=True)) as process:
        stat = Path(f"/proc/{process._process.pid}/stat")
        for _ in range(2):
            process.ask(x=1)
            deadline = time.monotonic() + 5
            while (state := stat.read_text().rsplit(")", 1)[1].split()[0]) != "T" and time.monotonic() < deadline:
                time.sleep(0.01)
            assert state == "T"


FORKING = """
import multiprocessing, os, threading, time
from posert.runtime.system.process import answer_channel, requests
answer = answer_channel()
def read():
    for request in requests():
        process = multiprocessing.get_context("fork").Process(target=send, args=(request["path"],))
        process.start()
        answer(pid=process.pid)
def send(path):
    os.close(os.open(path, os.O_CREAT))
    time.sleep(600)
threading.Thread(target=read, daemon=True).start()
time.sleep(0.2)
for _ in requests():
    pass
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_process_that_a_library_forked_runs_and_does_not_keep_the_parent_waiting(tmp_path: Path):
    # as openvino-telemetry does, which sends in a process of its own
    with closing(JsonProcess([sys.executable, "-W", "ignore", "-c", FORKING])) as process:
        forked = process.ask(path=str(tmp_path / "ran"))["pid"]
        try:
            while not (tmp_path / "ran").exists():
                time.sleep(0.05)
            process.kill()
            with pytest.raises(ProcessError, match="SIGKILL"):
                process.read()
            os.kill(forked, 0)  # it is still there
        finally:
            os.kill(forked, signal.SIGKILL)
