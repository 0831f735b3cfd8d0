"""A contender's process, seen from the contest: asked, stopped and woken, and never believed to be alive."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from ...runtime.errors import PosertError
from .worker import Given

_PACKAGE = Path(__file__).resolve().parents[2]
_PATIENCE = 600.0  # seconds until a contender that does not answer is given up
_GRACE = 10.0  # seconds that it has to end
# Every tool chooses its threads as it does for its users.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Gone(PosertError):
    """A contender that cannot take part, or no longer; the message says why."""


class Process:
    """One contender, open and stopped.

    Args:
        python: whose environment it runs in.
        module: see `worker.serve`.
        given: what its `open` takes.
        folder: for its files.

    Raises:
        Gone: it could not be opened.
    """

    def __init__(self, python: Path, module: str, given: Given, folder: Path) -> None:
        folder.mkdir()
        request, self._result, self._log = (folder / name for name in ("request.json", "result.json", "log.txt"))
        request.write_text(json.dumps({"module": module, "given": given}))
        function = f"{__package__}.worker:serve"
        command = [python, _PACKAGE / "benchmarks/harness/_child.py", _PACKAGE, function, request, self._result]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # an interrupt from the keyboard is for the contest, which ends them
                env={name: value for name, value in os.environ.items() if name not in _THREADS},
            )
        try:
            hello = self._answer()
        except BaseException:
            self.close()
            raise
        self.does: dict[str, Any] = hello["does"]
        self.frames: int = hello["frames"]
        self._stop()

    def ask(self, **values: Any) -> dict[str, Any]:
        """Wake it, send a request, and stop it when it has answered: threads that spin on would slow the next.

        Raises:
            Gone: it ended, or gives no answer.
        """
        self._wake()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # what it died of is read below
            self._process.stdin.write(json.dumps(values).encode() + b"\n")
            self._process.stdin.flush()
        try:
            return self._answer()
        finally:
            self._stop()

    def close(self) -> float | None:
        """End it; its peak of resident memory in MB, if it ended as it should."""
        self._wake()
        with contextlib.suppress(BrokenPipeError, subprocess.TimeoutExpired):
            self._process.communicate(timeout=_GRACE)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if not self._result.exists():
            return None
        return float(json.loads(self._result.read_text())["peak_mb"])

    def _answer(self) -> dict[str, Any]:
        stdout = self._process.stdout
        assert stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            if not selector.select(_PATIENCE):
                raise Gone(f"no answer within {_PATIENCE:.0f} s")
        line = stdout.readline()
        if not line:
            status = self._process.wait()
            ended = f"ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
            said = self._log.read_text(errors="replace").strip().splitlines()
            raise Gone(f"{ended}: {said[-1] if said else 'no message'}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Gone(answer["error"])
        return answer

    def _stop(self) -> None:
        self._send("SIGSTOP")

    def _wake(self) -> None:
        self._send("SIGCONT")

    def _send(self, name: str) -> None:
        if sys.platform != "win32" and self._process.poll() is None:
            self._process.send_signal(getattr(signal, name))
