"""Every frame of a source with its people or with the reason why there are none: none is lost, none comes twice."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from numpy.typing import ArrayLike, NDArray

from .errors import InputError
from .media.sources import Frame
from .pipeline import PosePipeline
from .pose.keypoints import Keypoints
from .smoothing import smooth_recording


@dataclass
class Taken:
    """A frame that was read.

    Attributes:
        key: the image's file name, or the frame's number in a video.
        image: `(H, W, 3)` uint8 BGR; None if it could not be read, or is not kept.
        size: height and width, px; 0 if it could not be read.
    """

    key: str | int
    image: NDArray[Any] | None
    size: tuple[int, int]


def each_frame(
    pipeline: PosePipeline,
    frames: Iterable[Frame],
    boxes: Callable[[str | int], ArrayLike | None] = lambda key: None,
    *,
    smooth: bool = False,
    live: bool = False,
    keep: bool = False,
) -> Iterator[tuple[Taken, Keypoints | None, str]]:
    """Send every frame through the pipeline: the frame, its people and, where there are none, the error.

    A frame that could not be read has neither people nor an error. After a frame that could not be used the others
    continue.

    Args:
        frames: pairs of a key and a frame `(H, W, 3)` uint8 BGR, or None for one that could not be read.
        boxes: by key, `(N, 4)` xyxy px; None: the detector's, or the whole frame.
        smooth: smooth the joints with those of the frames that follow.
        live: answer to each frame before the next one is read.
        keep: yield the frames with their images. Those that wait for the smoothing take memory then.

    Raises:
        as `PosePipeline.stream`, but InputError.
    """
    source = iter(frames)
    pending = deque[Taken]()  # frames that were read and have no result yet, in order
    sent = deque[Taken]()  # those of them that the pipeline has and did not answer yet

    def read() -> Iterator[Taken]:
        for key, image in source:
            pending.append(Taken(key, image, (0, 0) if image is None else (image.shape[0], image.shape[1])))
            yield pending[-1]

    def feed() -> Iterator[tuple[Any, Any]]:
        """Frames and boxes: those that a failed one left pending, then new ones."""
        for taken in chain(list(pending), read()):
            if taken.image is not None:
                sent.append(taken)
                yield taken.image, boxes(taken.key)

    def results() -> Iterator[Keypoints]:
        for people in (pipeline(*one) for one in feed()) if live else pipeline.stream(feed()):
            taken = sent.popleft()
            if not keep:
                taken.image = None
            yield people

    def stream() -> Iterator[Keypoints]:
        sent.clear()
        return smooth_recording(results()) if smooth else results()

    found = stream()
    while True:
        people, error = None, ""
        try:
            people = next(found, None)
        except InputError as seen:  # it ends the stream; the other frames continue in a new one
            error, found = str(seen), stream()
        while pending and pending[0].size == (0, 0):
            yield pending.popleft(), None, ""
        if people is None and not error:
            return
        yield pending.popleft(), people, error
