"""Read files that attack their reader, each in a process of its own: limited, timed, measured and watched.

Run in an interpreter of its own (`outcomes`): a fork of one with threads can hang.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

_SLACK = 1 << 30  # of addresses, beyond what is mapped when a file is opened
_HARMFUL = re.compile(
    r"exec|eval|os\.(system|exec|posix_spawn|fork|forkpty|putenv|remove|rename|rmdir|mkdir|link|symlink|truncate|chmod|kill|"
    r"startfile|spawn)|subprocess\.|socket\.|urllib\.|shutil\.|ctypes\.|pickle\.find_class|marshal\.loads|webbrowser\.|"
    r"ftplib\.|smtplib\.|http\.|import$"
)  # fmt: skip


def outcomes(module: str, folder: Path, timeout: float) -> dict[str, tuple[str, float, float]]:
    """What came of each of `module.attempts(folder)`: its message, seconds and megabytes."""
    code = f"import sys; sys.path[:0] = {[str(Path(__file__).parent), str(Path(module).parent)]!r}\n"
    code += f"import sandbox; sandbox.main({Path(module).stem!r}, sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=timeout)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"{lines[-1:]} {done.stderr[-2000:]}"
    return {name: (message, seconds, megabytes) for name, message, seconds, megabytes in lines}


def main(module: str, folder: str) -> None:
    attempts: Iterable[tuple[str, Callable[[], Any]]] = importlib.import_module(module).attempts(Path(folder))
    for name, call in attempts:
        print(json.dumps([name, *_measured(call)]), flush=True)


def _measured(call: Callable[[], Any]) -> tuple[str, float, float]:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        with open(write, "w") as pipe:
            json.dump(_attempt(call), pipe)
            pipe.flush()
            os._exit(0)
    os.close(write)
    with open(read) as pipe:
        text = pipe.read()
    status = os.waitpid(child, 0)[1]
    message, seconds, megabytes = json.loads(text) if text else (f"ended by signal {status & 127}", 0.0, 0.0)
    return message, seconds, megabytes


def _attempt(call: Callable[[], Any]) -> tuple[str, float, float]:
    from posert.runtime.errors import PosertError

    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") * 1024 + _SLACK,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20,) * 2)
    signal.alarm(20)
    Path("/proc/self/clear_refs").write_text("5")  # the peak of what is resident begins here
    before = _status("VmRSS")
    sys.addaudithook(_watch)
    start = time.process_time()
    try:
        message = f"accepted: {call()!s:.300}"
    except PosertError as error:
        message = str(error)
    except BaseException as error:  # noqa: B036 - told to the test
        message = f"{type(error).__name__} {error!s:.300}"
    global _watching
    _watching = False
    # Of the processor: other programs may be running. What waits for ever is ended by the alarm.
    return message, time.process_time() - start, (_status("VmHWM") - before) / 1024


_watching = True


class Harm(BaseException):
    """Not an Exception, so that no reader takes it for damage in the file."""


def _watch(event: str, args: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event == "compile" and sys._getframe(1).f_code.co_filename.endswith(("/ast.py", "/tokenize.py")):
        return  # to a syntax tree, which does not run
    if event == "import" and args[0].partition(".")[0] in ("posert", "yaml", "encodings", "numpy", "torch"):
        return
    # A module that may be imported: its own import was let through.
    if event in ("exec", "marshal.loads", "compile") and any(_frame_of_import(depth) for depth in range(1, 12)):
        return
    written = event == "open" and (
        (isinstance(args[1], str) and set(args[1]) & set("wax+")) or (args[2] or 0) & (os.O_WRONLY | os.O_RDWR)
    )
    if written or event == "compile" or _HARMFUL.match(event):
        raise Harm(f"{event} {args!r:.200}")


def _frame_of_import(depth: int) -> bool:
    try:
        return sys._getframe(depth + 1).f_code.co_filename == "<frozen importlib._bootstrap_external>"
    except ValueError:
        return False


def _status(name: str) -> int:
    """A figure of this process, kB."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])
