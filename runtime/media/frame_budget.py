"""A bound on the memory of frames that are read ahead of their turn."""

from __future__ import annotations

import threading

AHEAD_BYTES = 1 << 28
"""Of frames that wait for their turn together, unless it is a single one: ten of 8 megapixels each."""


class FrameBudget:
    """Admits frames to be decoded, by several threads, in their order.

    A frame is admitted when all frames before it have been, and it fits or no other waits. So the frame whose turn it
    is never waits for those behind it.
    """

    def __init__(self, limit: int = AHEAD_BYTES) -> None:
        self._limit = limit
        self._changed = threading.Condition()
        self._next = self._used = 0
        self._closed = False

    def admit(self, turn: int, size: int) -> None:
        """Wait until frame number `turn`, from 0, of `size` bytes may be decoded."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or (turn == self._next and self._fits(size)))
            self._next, self._used = self._next + 1, self._used + size
            self._changed.notify_all()

    def release(self, size: int) -> None:
        """A frame of `size` bytes waits no longer."""
        with self._changed:
            self._used -= size
            self._changed.notify_all()

    def close(self) -> None:
        """Admit everything from now on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _fits(self, size: int) -> bool:
        return self._used == 0 or self._used + size <= self._limit
