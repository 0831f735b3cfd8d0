"""Draw and write the frames of `posert run` in a thread of its own, while the next ones are estimated."""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from ..bundle.contract import Contract
from ..media.frame_budget import FrameBudget
from ..media.image_file import UNREADABLE
from ..media.outputs import Outputs
from ..media.sources import Frame, frame_bytes
from ..page import RunJitter, RunPage
from ..pose.draw import draw
from ..pose.keypoints import Keypoints
from .tally import Tally

_WAITING = 4  # frames that are done and not written yet, at most


@dataclass(frozen=True)
class Recorder:
    """Where the frames of a run go.

    Attributes:
        joint_score: joints with a lower score are not drawn.
        boxes: whether boxes are drawn.
        jitter: measures it; None where the frames are not of a video.
    """

    contract: Contract
    outputs: Outputs
    page: RunPage | None
    tally: Tally
    joint_score: float
    boxes: bool
    jitter: RunJitter | None

    @contextlib.contextmanager
    def open(self) -> Iterator[Recording]:
        """Everything that was added is written when the block ends, also by an exception.

        Raises InputError: as `Outputs.add`, when the next frame is added or at the end of the block.
        """
        recording = Recording(self)
        try:
            yield recording
        finally:
            recording.close()
        recording.check()

    def record(self, frame: Frame, people: Keypoints | None, error: str) -> None:
        """Draw and write one frame."""
        (key, image), tally = frame, self.tally
        if image is None or people is None:
            where = "frame" if tally.source.video else "file"
            tally.fail({where: key, "error": error or UNREADABLE})
            error = str(tally.failed[-1]["error"])
            with tally.seconds.timed("write"):
                self.outputs.add(key, image, None, error)
        else:
            if self.outputs.draws:
                with tally.seconds.timed("draw"):
                    draw(image, people, self.contract, threshold=self.joint_score, boxes=self.boxes)
            with tally.seconds.timed("write"):
                self.outputs.add(key, image, people)
            tally.frames, tally.people = tally.frames + 1, tally.people + len(people)
        if self.jitter is not None:
            self.jitter.add(people)
        if self.page is not None:
            with tally.seconds.timed("report"):
                self.page.add(key, image, self.outputs.draws, people, tally.since_last_frame(), error)


class Recording:
    """Frames on their way to a recorder's thread; see `Recorder.open`."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._failure: BaseException | None = None
        self._waiting: queue.Queue[tuple[Frame, Keypoints | None, str] | None] = queue.Queue(_WAITING)
        self._budget, self._turns = FrameBudget(), itertools.count()
        self._thread = threading.Thread(target=self._run, name="posert-write")
        self._thread.start()

    def add(self, frame: Frame, people: Keypoints | None, error: str = "") -> None:
        """Hand over a frame; waits while too many are not written yet. Raises as `Recorder.open`."""
        self.check()
        self._budget.admit(next(self._turns), frame_bytes(frame))
        self._waiting.put((frame, people, error))

    def check(self) -> None:
        """Raise what failed in the thread."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Wait until everything is written."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None:
            if self._failure is None:  # else only make room, so that nobody waits for it
                try:
                    self._recorder.record(*item)
                except BaseException as error:  # raised again in the thread that adds
                    self._failure = error
            self._budget.release(frame_bytes(item[0]))
            del item  # the next one may be long in coming
