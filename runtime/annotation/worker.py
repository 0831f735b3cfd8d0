"""A worker: a process that annotates the shards it is given, one after the other.

Requests and answers are lines of JSON. The first request is the setup, the others are shards. It ends with its driver.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import PosertError
from ..system.memory import peak_mb
from ..system.process import answer_channel, requests
from .settings import Settings
from .shard import Shard

if TYPE_CHECKING:
    from .work import Annotator, Counts

_REPORTS = 0.5  # seconds between two reports about a shard


def main() -> int:
    """Entry point."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the driver decides
    answer = answer_channel()
    received = _received()
    setup = received.get()
    logging.getLogger("posert").addHandler(_Telling(answer))
    try:
        import cv2

        from .work import Annotator

        if setup["threads"]:
            cv2.setNumThreads(setup["threads"])
        annotator = Annotator(Settings(**setup["settings"]), setup["threads"], setup["decoders"])
    except PosertError as error:
        answer(unfit=str(error))
        return 0
    answer(ready=True)
    while True:
        shard = Shard.from_json(received.get())
        answer(**outcome(annotator, shard, Path(setup["work"]), setup["target"], _reporter(answer)))


def outcome(
    annotator: Annotator, shard: Shard, work: Path, target: str, report: Callable[[Counts], None]
) -> dict[str, Any]:
    """Annotate a shard; the answer: `done` with what the journal tells, `failed` with the reason, or `broken`, with the
    reason why no results can be written.
    """
    from .publishing import OutputError, publish

    try:
        record = annotator.annotate(shard, work, report)
        record |= publish(shard, work, target)
    except OutputError as error:
        return {"broken": str(error)}
    except PosertError as error:
        return {"failed": str(error)}
    except Exception as error:  # a fault of ours or of a library must not cost the other shards
        traceback.print_exc()
        return {"failed": f"internal error: {type(error).__name__}: {error}"}
    return {"done": record, "peak_mb": peak_mb()}


def _reporter(answer: Callable[..., None]) -> Callable[[Any], None]:
    last = time.monotonic()

    def report(counts: Any) -> None:
        nonlocal last
        if (now := time.monotonic()) - last > _REPORTS:
            last = now
            answer(frames=counts.frames, people=counts.people)

    return report


def _received() -> queue.Queue[dict[str, Any]]:
    """What the driver sends, read in a thread: when the driver ends, so does this process, whatever it does."""
    received: queue.Queue[dict[str, Any]] = queue.Queue()

    def read() -> None:
        for request in requests():
            received.put(request)
        os._exit(0)

    threading.Thread(target=read, name="posert-requests", daemon=True).start()
    return received


class _Telling(logging.Handler):
    """Sends warnings to the driver."""

    def __init__(self, answer: Callable[..., None]) -> None:
        super().__init__(logging.WARNING)
        self._answer = answer

    def emit(self, record: logging.LogRecord) -> None:
        self._answer(warning=record.getMessage())


if __name__ == "__main__":
    sys.exit(main())
