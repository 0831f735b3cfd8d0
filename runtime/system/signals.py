"""Stop a command cleanly on Ctrl-C and on SIGTERM (docker stop, timeout, a cancelled CI job)."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM. A KeyboardInterrupt, so that code that cleans up after Ctrl-C also cleans up after SIGTERM."""


class StopSignals:
    """Handle SIGINT and SIGTERM while the block runs; blocks may be nested, the innermost one decides.

    By default each signal raises at once: Ctrl-C KeyboardInterrupt, SIGTERM `Terminated`. With `deferred` the first
    signal only sets `number`, so that a loop can finish its current item; a second Ctrl-C raises.

    Handlers of a host program stay in place, and threads other than the main one, where Python allows no handlers, get
    none. `number` is the signal that was received, in this block or in one inside it; 0 if none was.
    """

    def __init__(self, *, deferred: bool = False) -> None:
        self.number = 0
        self._deferred = deferred

    @property
    def status(self) -> int:
        """The exit status a shell expects for the signal."""
        return 128 + self.number

    def __enter__(self) -> StopSignals:
        self._before: dict[int, Any] = {}
        self.frame: FrameType | None = sys._getframe(1)
        if threading.current_thread() is threading.main_thread():
            _active.append(self)
            for number in _SIGNALS:
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    self._before[number] = signal.signal(number, _handle)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self.frame = None  # which would keep all that is in it
        if self in _active:
            _active.remove(self)

    def receive(self, number: int) -> None:
        """Act on a signal."""
        again = self.number
        for block in _active:
            block.number = number
        if number == signal.SIGINT and (again or not self._deferred):
            raise KeyboardInterrupt
        if number == signal.SIGTERM != again and not self._deferred:
            raise Terminated  # once: `timeout` sends two, and the second must not interrupt the clean-up


_AGAIN_S = 0.01
_active: list[StopSignals] = []  # the innermost block last


def _handle(number: int, frame: FrameType | None) -> None:
    if os.name != "nt" and _imports(frame, _active[-1].frame):
        # Inside the import system Python would ignore an exception, and keep its lock of imports for ever: the next
        # import of another thread would never end. Inside a C++ library that is being imported, and calls Python, an
        # exception can abort the process. So the signal comes once more, until the import has ended.
        main = threading.main_thread().ident or 0
        threading.Timer(_AGAIN_S, signal.pthread_kill, (main, number)).start()
        return
    _active[-1].receive(number)


def _imports(frame: FrameType | None, outer: FrameType | None) -> bool:
    """Whether a frame belongs to an import that was begun inside of `outer`."""
    found = False
    while frame is not None and frame is not outer:
        found |= frame.f_code.co_filename.startswith("<frozen importlib")
        frame = frame.f_back
    return found and frame is not None
