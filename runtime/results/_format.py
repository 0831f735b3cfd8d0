"""What a results format is: how a file of it is opened, and what is written into it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..bundle.contract import Contract
from ..pose.keypoints import Keypoints


@dataclass(frozen=True)
class Subject:
    """What a results file is about, known before the first frame.

    Attributes:
        source: the image, folder, video, camera or URL, as the user named it.
        contract: of the network: joints, skeleton, data set.
        facts: what else the file should tell, by name, as JSON values: backend, precision, ...
        keys: file names of the images; empty for a video.
        smoothed: whether the joints are smoothed, and people have `raw` ones beside them.
    """

    source: str
    contract: Contract
    facts: Mapping[str, Any] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    smoothed: bool = False


@dataclass(frozen=True)
class FrameResult:
    """What was found in one frame.

    Attributes:
        index: position of the frame in its source, from 0; frames that failed count.
        key: the image's file name, or the frame's number in a video.
        people: who is in the frame; None if it could not be used.
        width, height: of the frame, px; 0 if it could not be read.
        error: why there are no people, where `people` is None.
    """

    index: int
    key: str | int
    people: Keypoints | None
    width: int = 0
    height: int = 0
    error: str = ""


class Writer(ABC):
    """An open results file. Memory does not grow with the number of frames."""

    @abstractmethod
    def add(self, result: FrameResult) -> None:
        """Append a frame; the frames come in order.

        Raises InputError: the file cannot be written, or the format cannot hold the frame.
        """

    @abstractmethod
    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write what stands at the end; the summary counts the frames and names those that failed."""


@dataclass(frozen=True)
class Format:
    """A format of results.

    Attributes:
        name: as the registry knows it.
        ending: of the path that asks for it, in lower case, with its dot: ".coco.json". Of two that fit, the longer one
            is meant.
        summary: what it is, in a few words, for the help of `--output`.
        open: from the path and the subject to a context with the file's writer. The file is complete when the context
            is left without an exception, and absent otherwise. Raises InputError: the file cannot be written, or the
            format cannot hold these joints. Raises PosertError: a library is missing.
    """

    name: str
    ending: str
    summary: str
    open: Callable[[Path, Subject], AbstractContextManager[Writer]]
