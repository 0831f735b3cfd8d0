"""What a network on the GPU has to offer, and how its work is recorded and timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from ..errors import InputError
from .driver import Event, Stream

BUCKETS = (1, 2, 4, 8, 16, 32)
"""Batch sizes that are prepared; other numbers of people run in the next larger one."""


class Network(Protocol):
    """A network on the GPU.

    Crops `(N, H, W, 3)` uint8 BGR and its outputs, such as heatmaps `(N, C, h, w)`, lie in buffers of the caller.

    Attributes:
        largest: the largest batch that it takes.
        capturable: whether a CUDA graph can hold its work.
    """

    largest: int
    capturable: bool

    def outputs(self, crop: tuple[int, ...]) -> tuple[tuple[tuple[int, ...], ...], np.dtype[Any]]:
        """The shape of each output for one crop `(H, W, 3)`, and the type of all, float32 or float16.

        It is called before `bind`.

        Raises:
            BackendError: it does not take such crops, or its outputs are of another type.
        """
        ...

    def bind(self, batch: int, crops: int, outputs: Sequence[int], stream: Stream) -> Callable[[], None]:
        """Prepare a batch size with buffers at these addresses.

        The result puts one run into the stream. It is called at least once before it is captured, and is only used
        while no run of another batch size is in progress.
        """
        ...


def bucket_of(people: int, largest: int) -> int:
    """The batch size in which so many people run, of those that the network takes.

    Raises InputError: more than `largest`.
    """
    if people > largest:
        raise InputError(f"{people} people at once; the network takes {largest}")
    return next(b for b in (*(b for b in BUCKETS if b < largest), largest) if b >= people)


def record(work: Callable[[], None], stream: Stream, capturable: bool) -> Callable[[], None]:
    """Run work once, so that libraries initialise, and return what runs it again: a graph where that is possible."""
    work()
    stream.synchronize()
    if not capturable:
        return work
    graph = stream.capture(work)

    def replay(_kept: object = work) -> None:  # the graph reads what belongs to the work
        graph.launch(stream)

    return replay


def timed_ms(work: Callable[[], None], stream: Stream, rounds: int) -> list[float]:
    """GPU time of each of so many runs of work that goes into a stream."""
    marks = [Event(timed=True) for _ in range(rounds + 1)]
    # One run ahead, not timed: while the GPU is busy with it, the host puts the next one behind it. The first mark
    # would else be passed at once, and the time in which the host launches be counted as the GPU's.
    work()
    stream.record(marks[0])
    for mark in marks[1:]:
        work()
        stream.record(mark)
    marks[-1].synchronize()
    return [mark.ms_since(earlier) for earlier, mark in pairwise(marks)]
