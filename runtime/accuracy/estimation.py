"""One pass over people: read each image, run something on its people, take the time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Container, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .people import People

T = TypeVar("T")
Image = NDArray[np.uint8]
Members = NDArray[np.intp]


@dataclass(frozen=True)
class Estimated(Generic[T]):
    """What one image gave."""

    image: int  # index in `People.files`
    members: Members  # (n,) indices of its people
    frame: Image  # (H, W, 3) uint8 BGR
    result: T  # what `run` returned for them
    ms_per_person: float  # time of `run`, divided by n


def estimate(
    people: People,
    load: Callable[[int], Image],
    run: Callable[[Image, Members], T],
    *,
    skip: Container[int] = (),
    warm_up: bool = False,
    workers: int = 0,
    runner: str = "",
) -> Iterator[Estimated[T]]:
    """Run an estimator on everyone, image by image.

    Args:
        load: the frame of an image, by its index in `people.files`.
        run: `(frame, indices of its people)` -> any result.
        skip: images that are done already.
        warm_up: run a number of people once more, untimed, when it first occurs: backends prepare kernels then.
        workers: threads that read images ahead; 0 reads each image when it is needed.
        runner: what runs, for messages.

    Raises:
        InputError: an image cannot be read, or `run` refused its people; the image is named.
    """
    groups = [(image, members) for image, members in people.by_image() if image not in skip]
    seen: set[int] = set()

    for (image, members), frame in zip(groups, _frames([i for i, _ in groups], load, workers), strict=True):
        try:
            if warm_up and len(members) not in seen:
                run(frame, members)
                seen.add(len(members))
            start = time.perf_counter()
            result = run(frame, members)
            ms = 1e3 * (time.perf_counter() - start) / len(members)
        except InputError as error:  # a box outside the frame, or a network that gives NaN
            raise InputError(f"{', '.join(filter(None, (people.files[image], runner)))}: {error}") from error
        yield Estimated(image, members, frame, result, ms)


def _frames(images: list[int], load: Callable[[int], Image], workers: int) -> Iterator[Image]:
    """The images in order; with workers, twice as many as there are workers are read ahead."""
    if not workers:
        yield from map(load, images)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Image]] = deque()
        for image in images:
            waiting.append(pool.submit(load, image))
            if len(waiting) == 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
