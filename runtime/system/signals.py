"""SIGTERM (docker stop, timeout, a cancelled CI job) as an orderly end: what Ctrl-C tidies up, it does too."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

STATUS = 128 + signal.SIGTERM


class Terminated(KeyboardInterrupt):
    """A KeyboardInterrupt, so that whoever keeps what there is at Ctrl-C keeps it at SIGTERM too."""


class Termination:
    """While its block runs, SIGTERM raises `Terminated` there.

    Attributes:
        came: whether it did, also where the block made an end of its own of it.
    """

    came = False

    def __enter__(self) -> Termination:
        # Only the main thread may set handlers; a host program's own, and one that ignores it, stay as they are.
        main = threading.current_thread() is threading.main_thread()
        self._ours = main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        if self._ours:
            signal.signal(signal.SIGTERM, self._end)
        return self

    def __exit__(self, *_: Any) -> None:
        if self._ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _end(self, number: int, frame: FrameType | None) -> None:
        if not self.came:  # `timeout` sends it twice: the second one must not interrupt the tidying up
            self.came = True
            raise Terminated
