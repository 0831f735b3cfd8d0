"""What an adapter is, and the process in which one runs: it opens the tool and calls it when asked.

Only the standard library, numpy and the adapter's own file are imported, since a tool's environment has no more.
"""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.bench.timing import timed
from ...runtime.system.memory import peak_mb
from ..child import find, requests

Inputs = dict[str, Any]
"""Of every adapter, see `inputs.prepare`, with its own options."""
Image = NDArray[np.uint8]
Boxes = NDArray[np.float64]
Joints = tuple[NDArray[np.floating], NDArray[np.floating]]


@dataclass(frozen=True)
class Adapter:
    """A tool that is ready, as a function of `Inputs` opens it.

    Attributes:
        call: `(frame (H, W, 3) uint8 BGR, boxes (N, 4) float64 xyxy)` to xy `(N, K, 2)`, px of the frame, and score
            `(N, K)`.
        description: what a reader of its figures must know: precision, decoding, whether people are batched, ...
        frames: that one call processes.
    """

    call: Callable[[Image, Boxes], Joints]
    description: dict[str, Any] = field(default_factory=dict)
    frames: int = 1


class UnavailableError(Exception):
    """The tool cannot run here, or not this model; the message says why."""


def described(
    tool: str,
    decode: str,
    pipeline: str,
    *,
    precision: str = "fp32",
    threads: int | str = "default",
    people: str = "a batch",
) -> dict[str, Any]:
    """An adapter's description."""
    how = {"precision": precision, "threads": threads, "people": people}
    return {"tool": tool, **how, "decode": decode, "pipeline": pipeline}


def serve(function: str, inputs: Inputs) -> Iterator[dict[str, Any]]:
    """Open the adapter by "package.module:function" and answer requests, see `child.start`.

    `frame.npy` and `boxes.npy` are in the "folder" of its inputs.
    """
    if sys.platform == "linux":  # stopped between its turns, it could not notice that its parent was killed
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    try:
        adapter: Adapter = find(function)(inputs)
    except (UnavailableError, ImportError) as error:
        yield {"error": str(error)}
        return
    frame, boxes = (np.load(Path(inputs["folder"], f"{name}.npy")) for name in ("frame", "boxes"))
    yield {"description": adapter.description}
    for request in requests():
        call = partial(adapter.call, frame, boxes[: request["people"]])
        if request["do"] == "joints":
            xy, score = call()
            yield {"xy": np.asarray(xy, float).tolist(), "score": np.asarray(score, float).tolist()}
        else:
            if adapter.frames == 1:
                call()  # others have used the caches since its last turn
            yield {"seconds": [s / adapter.frames for s in timed(call, request["burst"])], "peak_mb": peak_mb()}
