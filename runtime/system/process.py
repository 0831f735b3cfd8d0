"""A child process that answers requests, each with one line of JSON: the parent's side and the child's channel."""

from __future__ import annotations

import contextlib
import json
import math
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..errors import PosertError
from .memory import resident_mb

_POLL = 0.05  # seconds between two looks at a child that has a limit
_TAIL = 15  # lines


class ProcessError(PosertError):
    """A child process ended, was ended, or does not answer; `output` has its last lines on standard error."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


class JsonProcess:
    """A running command that reads requests from standard input and answers on standard output.

    Args:
        command: the program and its arguments.
        env: its environment variables; None keeps ours.
        paused: stop it (SIGSTOP) while it owes no answer, so that its threads do not slow down others.
        patience: seconds until a missing answer is an error; None waits for ever. It can be set again: the first answer
            of a child that has much to import takes longer than the next.
        memory_gb: resident memory above which it is ended (Linux); None sets no limit.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        paused: bool = False,
        patience: float | None = None,
        memory_gb: float | None = None,
    ) -> None:
        self._paused = paused and sys.platform != "win32"
        self.patience, self._memory_gb = patience, memory_gb
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command,
            stdin=pipe,
            stdout=pipe,
            stderr=self._errors,
            env=env,
            text=True,
            bufsize=1,
            start_new_session=self._paused,  # a stopped process must not get the keyboard's interrupt
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and `read` its answer."""
        self.send(**request)
        return self.read()

    def send(self, **request: Any) -> None:
        """Send a request."""
        self._signal("SIGCONT")
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `read` finds out why it ended
            self._process.stdin.write(json.dumps(request) + "\n")

    def read(self) -> dict[str, Any]:
        """The next answer.

        Raises ProcessError: the process ended, did not answer in time or took more memory than allowed.
        """
        assert self._process.stdout is not None
        if self.patience is not None or self._memory_gb is not None:
            self._wait()
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        self._signal("SIGSTOP")
        return dict(json.loads(line))

    def kill(self) -> None:
        """End the process. A `read` that waits for it in another thread raises."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End the process and forget it."""
        self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):  # a request that was never read
                if stream is not None:
                    stream.close()
        self._errors.close()

    def _wait(self) -> None:
        end = time.monotonic() + self.patience if self.patience is not None else math.inf
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)  # type: ignore[arg-type]
            while not selector.select(_POLL):
                if time.monotonic() > end:
                    raise ProcessError(f"did not answer within {self.patience:g} s")
                used = (resident_mb(self._process.pid) or 0.0) / 1e3
                if self._memory_gb is not None and used > self._memory_gb:
                    self._process.kill()
                    raise ProcessError(f"was ended at {used:.1f} GB of memory; the limit is {self._memory_gb:g} GB")

    def _ended(self) -> ProcessError:
        status = self._process.wait()
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return ProcessError(f"{how}: {lines[-1] if lines else 'no message'}", "\n".join(lines[-_TAIL:]))

    def _signal(self, name: str) -> None:
        if self._paused and self._process.poll() is None:
            self._process.send_signal(getattr(signal, name))  # Windows has neither


def answer_channel() -> Callable[..., None]:
    """For the child: a function that writes one answer. From here on, what libraries print goes to standard error.

    Processes that libraries fork do not get the channel (openvino-telemetry starts one): the parent, who reads until
    it is closed, would wait for them after this process has ended.
    """
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
        os.register_at_fork(after_in_child=lambda: os.close(channel.fileno()))

    def answer(**values: Any) -> None:
        channel.write(json.dumps(values) + "\n")

    return answer


def requests() -> Iterator[dict[str, Any]]:
    """For the child: what the parent sends; it ends with the parent.

    It can be read in a thread. `sys.stdin` could not: a process that a library forks with multiprocessing closes that,
    and would wait for ever for the lock that the thread has.
    """
    with os.fdopen(os.dup(0), encoding="utf-8") as lines, open(os.devnull) as sys.stdin:
        for line in lines:
            yield dict(json.loads(line))
