"""SIGTERM ends commands in order: temporary folders and child processes go, and the status says what it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from posert.runtime.system.signals import Terminated, Termination

_PLANTED = """
import subprocess, sys, tempfile, time
from types import SimpleNamespace
from posert.runtime import cli

def run(args):
    with tempfile.TemporaryDirectory(prefix="posert-") as folder:
        {wait}
    return 0

cli.COMMANDS["planted"] = ("planted_module", "for the test")
sys.modules["planted_module"] = SimpleNamespace(add_arguments=lambda parser: None, main=run)
sys.exit(cli.main(["planted"]))
"""
_WAITS = {
    "alone": "print(folder, flush=True); time.sleep(60)",
    # The child tells the folder: it is there then.
    "with a child": "subprocess.run([sys.executable, '-c', "
    "'import sys, time; print(sys.argv[1], flush=True); time.sleep(60)', folder])",
}


def start(command: list[str], folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, *command], stdout=pipe, stderr=pipe, text=True, env=environment)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("wait", _WAITS)
def test_a_command_tidies_up(tmp_path: Path, wait: str, times: int) -> None:
    process = start(["-c", _PLANTED.format(wait=_WAITS[wait])], tmp_path)
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    assert folder.parent == tmp_path and folder.is_dir()
    for _ in range(times):  # `timeout` signals the process, and then its group
        process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (143, "posert planted: ended by SIGTERM\n")
    assert not folder.exists()


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are found in Linux's /proc")
def test_bench_ends_the_processes_that_measure(narrow_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    arguments = ["bench", str(narrow_bundle), "--backend", "openvino", "--precision", "fp32", "--people", "1"]
    process = start(["-m", "posert.runtime.cli", *arguments, "--threads", "1", "--rounds", "100000"], tmp_path)
    workers: list[int] = []
    deadline = time.monotonic() + 120
    while not workers and process.poll() is None:
        assert time.monotonic() < deadline, "no process that measures within two minutes"
        time.sleep(0.02)
        workers = [pid for pid in _children(process.pid) if b"harness.worker" in _command_line(pid)]
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert workers and not any(b"harness.worker" in _command_line(pid) for pid in workers)
    assert not list(tmp_path.iterdir())


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_only_while_it_runs() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated), Termination() as seen:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)  # the handler comes first
    assert seen.came and signal.getsignal(signal.SIGTERM) is before


def test_the_handler_of_a_host_program_stays() -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        with Termination() as seen:
            os.kill(os.getpid(), signal.SIGTERM)
            deadline = time.monotonic() + 5
            while not came and time.monotonic() < deadline:
                time.sleep(0.01)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert came == [signal.SIGTERM] and not seen.came


def test_a_thread_may_use_it() -> None:
    """Python lets only the main thread set handlers; a program may call a command from another."""
    done: list[bool] = []

    def work() -> None:
        with Termination() as seen:
            done.append(seen.came)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [False]
