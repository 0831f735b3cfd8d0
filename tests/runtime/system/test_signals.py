"""Ctrl-C and SIGTERM end commands cleanly: nothing is left, and the status names the signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from posert.runtime.system.signals import StopSignals, Terminated

_PLANTED = """
import subprocess, sys, tempfile, time
from posert.runtime.cli import main as cli
from posert.runtime.cli.command import Command

def run(args):
    with tempfile.TemporaryDirectory(prefix="posert-") as folder:
        {wait}
    return 0

cli.load_command = lambda name: Command("End", "run", lambda parser: None, run)
sys.exit(cli.main(["planted"]))
"""
_WAITS = {
    "alone": "print(folder, flush=True); time.sleep(60)",
    # The child prints the folder, so it is running by then.
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
    assert (process.returncode, err) == (143, "posert planted: terminated (SIGTERM)\n")
    assert not folder.exists()


_IMPORT = """
import signal, sys, time
sys.path.insert(0, sys.argv[1])
from posert.runtime.system.signals import StopSignals, Terminated
try:
    with StopSignals():
        import slow  # as a C++ library does that calls Python while it is imported
        print("not reached")
        time.sleep(60)
except Terminated:
    print("ended behind it")
"""
_SLOW = """
import signal, time
def called():
    signal.raise_signal(signal.SIGTERM)
    time.sleep(0.2)
called()
print("imported", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to catch")
def test_an_import_is_not_interrupted(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(_SLOW)
    done = subprocess.run([sys.executable, "-c", _IMPORT, str(tmp_path)], capture_output=True, text=True, timeout=50)
    assert done.stdout.splitlines()[0] == "imported" and done.stdout.splitlines()[-1] == "ended behind it", done


def test_a_program_that_is_itself_imported_ends(tmp_path: Path) -> None:
    """Only imports that began inside of the block are waited for."""
    (tmp_path / "program.py").write_text(_IMPORT.replace("import slow", "signal.raise_signal(signal.SIGTERM)"))
    line = "import sys; sys.path.insert(0, sys.argv[1]); import program"
    done = subprocess.run([sys.executable, "-c", line, str(tmp_path)], capture_output=True, text=True, timeout=50)
    assert done.stdout == "ended behind it\n", done


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are found in Linux's /proc")
def test_bench_ends_the_processes_that_measure(narrow_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    arguments = ["bench", str(narrow_bundle), "--backend", "openvino", "--precision", "fp32", "--people", "1"]
    process = start(["-m", "posert.runtime.cli", *arguments, "--threads", "1", "--rounds", "100000"], tmp_path)
    workers: list[int] = []
    deadline = time.monotonic() + 120
    while not workers and process.poll() is None:
        assert time.monotonic() < deadline, "no worker process within two minutes"
        time.sleep(0.02)
        workers = [pid for pid in _children(process.pid) if b"bench.worker" in _command_line(pid)]
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert workers and not any(b"bench.worker" in _command_line(pid) for pid in workers)
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


def receive(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.2)  # the handler runs first


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_raises_at_once_and_handlers_are_restored(number: int, raised: type[BaseException]) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt) as error, StopSignals() as stop:
        receive(number)
    assert error.type is raised
    assert (stop.number, stop.status) == (number, 128 + number)
    assert signal.getsignal(number) is before


@pytest.mark.skipif(os.name == "nt", reason="Windows delivers no signals to a thread")
def test_a_signal_in_the_import_system_raises_when_it_has_moved_on() -> None:
    """Raised there, Python ignores it and keeps its lock of imports: the run went on, and hung at its end."""
    inside = compile("kill(pid, number)", "<frozen importlib._bootstrap>", "exec")
    with StopSignals() as stop:
        exec(inside, {"kill": os.kill, "pid": os.getpid(), "number": signal.SIGTERM})
        assert stop.number == 0
        with pytest.raises(Terminated):
            time.sleep(10)
    assert stop.number == signal.SIGTERM


def test_a_second_sigterm_does_not_interrupt_the_clean_up() -> None:
    """`timeout` signals the process, and then its group."""
    with StopSignals() as stop:
        with pytest.raises(Terminated):
            receive(signal.SIGTERM)
        receive(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            receive(signal.SIGINT)
    assert stop.number == signal.SIGINT


def test_a_deferred_signal_lets_the_current_item_finish() -> None:
    with StopSignals() as outer:
        with StopSignals(deferred=True) as stop:
            receive(signal.SIGTERM)
            receive(signal.SIGTERM)
            assert stop.number == signal.SIGTERM
            with pytest.raises(KeyboardInterrupt):  # Ctrl-C, however, is impatience
                receive(signal.SIGINT)
        assert outer.number == signal.SIGINT
    with StopSignals(deferred=True) as stop:
        receive(signal.SIGINT)
        assert stop.number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            receive(signal.SIGINT)


@pytest.mark.parametrize("deferred", [False, True])
def test_the_handler_of_a_host_program_stays(deferred: bool) -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        with StopSignals(deferred=deferred) as stop:
            receive(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM] and not stop.number


@pytest.mark.parametrize("deferred", [False, True])
def test_a_thread_may_use_it(deferred: bool) -> None:
    """Python lets only the main thread set handlers; a program may call a command from another one."""
    numbers: list[int] = []

    def work() -> None:
        with StopSignals(deferred=deferred) as stop:
            numbers.append(stop.number)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert numbers == [0]
