"""The bound on frames that are read ahead."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posert.runtime.media.frame_budget import FrameBudget
from posert.runtime.media.sources import Frame, prefetch


@given(st.lists(st.integers(0, 120), max_size=30), st.integers(1, 4))
def test_frames_are_admitted_in_order_and_within_the_limit(sizes: list[int], threads: int) -> None:
    budget, used, lock = FrameBudget(100), [0], threading.Lock()

    def decode(turn: int, size: int) -> None:
        budget.admit(turn, size)
        with lock:
            used[0] += size
            assert used[0] <= 100 or used[0] == size

    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(decode, turn, size) for turn, size in enumerate(sizes)]
        for future, size in zip(running, sizes, strict=True):
            future.result(timeout=20)
            with lock:
                used[0] -= size
            budget.release(size)


def test_a_closed_budget_holds_nobody() -> None:
    budget = FrameBudget(1)
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(budget.admit, turn, 5) for turn in (0, 1, 3)]
        budget.close()
        assert not wait(running, timeout=20).not_done


@pytest.mark.parametrize(("limit", "ahead"), [(1, 1), (1200, 2), (1 << 28, 3)])
def test_a_reader_counts_bytes(monkeypatch: pytest.MonkeyPatch, limit: int, ahead: int) -> None:
    """Beside the consumer's frame, of 600 bytes as all are, there is one, or as many as there is room for."""
    monkeypatch.setattr(FrameBudget.__init__, "__defaults__", (limit,))
    read: list[int] = []

    def frames() -> Iterator[Frame]:
        for number in range(8):
            read.append(number)
            yield number, np.zeros((10, 20, 3), np.uint8)

    for number, _ in prefetch(frames()):
        time.sleep(0.05)  # in which the reader reads what it may
        assert len(read) == min(number + 1 + ahead, 8)
