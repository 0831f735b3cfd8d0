"""Timing calls in turn, so that a slow moment of the machine falls on all of them."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping

Calls = Mapping[str, Callable[[], object]]

# Warm: the fastest call of the last `_WINDOW` rounds is within 5 % of that of the rounds before. Calls of more than
# half a second average out enough by themselves: one is a window.
_STABLE, _WINDOW, _LONG = 0.05, 3, 0.5


def interleave(calls: Calls, rounds: int, *, burst: float = 0.0, warm_up: float = 20.0) -> dict[str, list[list[float]]]:
    """Seconds of each call by name and round, in a new order every round.

    Before the first round all are warmed for at most `warm_up` seconds; `burst` as for `timed`.
    """
    seconds: dict[str, list[list[float]]] = {name: [] for name in calls}
    warm(calls, warm_up)
    for order in orders(list(calls), rounds):
        for name in order:
            seconds[name].append(timed(calls[name], burst))
    return seconds


def warm(calls: Calls, limit: float = 20.0) -> bool:
    """Call all in turn until their times settle. Returns True if they did, False after `limit` seconds."""
    end = time.perf_counter() + limit
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for order in orders(list(calls), sys.maxsize):
        for name in order:
            seconds[name].append(timed(calls[name])[0])
        if all(settled(times) for times in seconds.values()):
            return True
        if time.perf_counter() > end:
            break
    return False


def settled(times: list[float]) -> bool:
    """Whether the last rounds took as long as those before them."""
    window = 1 if times and times[-1] > _LONG else _WINDOW
    if len(times) < 2 * window:
        return False
    before, last = min(times[-2 * window : -window]), min(times[-window:])
    return abs(last / before - 1) < _STABLE


def timed(call: Callable[[], object], burst: float = 0.0) -> list[float]:
    """Seconds of each call: one call, or as many as fit into `burst` seconds."""
    times: list[float] = []
    end = time.perf_counter() + burst
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def orders(names: list[str], rounds: int) -> Iterator[list[str]]:
    """A random order for each round, so that nobody always follows the one that leaves its threads spinning."""
    rng = random.Random(0)
    return (rng.sample(names, len(names)) for _ in range(rounds))
