"""What runs in a contender's own environment: it opens one contender and calls it when it is told to.

Nothing but the standard library, numpy and the contender's own file is imported, whatever else posert needs.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.bench.paired import timed

Given = dict[str, Any]
Joints = tuple[NDArray[np.floating], NDArray[np.floating]]


@dataclass(frozen=True)
class Opened:
    """A contender that is ready.

    Attributes:
        call: `(frame (H, W, 3) uint8 BGR, boxes (N, 4) float64 xyxy)` to xy `(N, K, 2)`, px of the frame, and score
            `(N, K)`.
        does: what a reader of its figures must know: precision, decode, people (one by one, or a batch), ...
        frames: that one call goes through.
    """

    call: Callable[[NDArray[np.uint8], NDArray[np.float64]], Joints]
    does: dict[str, Any] = field(default_factory=dict)
    frames: int = 1


class Absent(Exception):
    """This contender cannot take part here; the message says why."""


def serve(module: str, given: Given) -> None:
    """Answer requests on standard output, in lines of JSON, until standard input ends.

    Args:
        module: of the contender, ".name" in this package; it has a function `open(given) -> Opened`.
        given: see `materials`; `frame.npy` and `boxes.npy` lie in its `folder`.
    """
    _end_with_parent()
    # Libraries write to standard output as they like: the answers get a way of their own.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answer(**values: Any) -> None:
        answers.write(json.dumps(values) + "\n")

    try:
        opened: Opened = importlib.import_module(module, __package__).open(given)
    except (Absent, ImportError) as error:
        answer(error=str(error))
        return
    frame, boxes = (np.load(Path(given["folder"], f"{name}.npy")) for name in ("frame", "boxes"))
    answer(does=opened.does, frames=opened.frames)
    for line in sys.stdin:
        ask = json.loads(line)
        call = partial(opened.call, frame, boxes[: ask["people"]])
        if ask["do"] == "joints":
            xy, score = call()
            answer(xy=np.asarray(xy, float).tolist(), score=np.asarray(score, float).tolist())
        else:
            if opened.frames == 1:
                call()  # others have had the caches since the last turn
            answer(seconds=[s / opened.frames for s in timed(call, ask["burst"])])


def _end_with_parent() -> None:
    """A worker waits stopped between its turns, so it could not notice that the parent was killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
