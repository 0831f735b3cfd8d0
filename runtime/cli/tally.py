"""Counts, failures and times of `posert run`."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError
from ..media.sources import Source
from ..system.signals import StopSignals
from ..system.stages import Stages

_TRUNCATED = 0.9  # of the frames a video declares: the count is slightly off in many intact files


@dataclass
class Tally:
    """Counts, failures and times of a run. Drawing and writing overlap with the other stages.

    `given` names what the frames are used with: the bundle, and the boxes if there are any. `subject` is what one is
    called who is found, and several, see `Contract.subject`.
    """

    source: Source
    stop: StopSignals
    given: object
    subject: tuple[str, str] = ("person", "people")
    frames: int = 0
    people: int = 0
    failed: list[dict[str, Any]] = field(default_factory=list)
    seconds: Stages = field(default_factory=lambda: Stages("read", "pose", "draw", "write"))
    began: float = field(default_factory=time.perf_counter)
    ended: float = 0.0
    _before: dict[str, float] = field(default_factory=dict)

    def since_last_frame(self) -> dict[str, float]:
        """Seconds of each stage since the last call."""
        spent = {stage: total - self._before.get(stage, 0.0) for stage, total in self.seconds.items()}
        self._before = dict(self.seconds)
        return spent

    def fail(self, record: dict[str, Any]) -> None:
        """Note and tell a failure."""
        self.failed.append(record)
        where = f"frame {record['frame']}" if "frame" in record else record.get("file", self.source.name)
        print(f"{where}: {record['error']}", file=sys.stderr)

    def finish(self) -> None:
        """Stop the clock, and check that there were frames, and as many as the source declares."""
        self.ended = time.perf_counter()
        if self.stop.number:
            if not self.frames:
                raise KeyboardInterrupt
            return
        read, declared = self.frames + len(self.failed), self.source.total
        if not self.frames:
            why = "no frame could be read; " + (
                "the file may be damaged" if self.source.path else "does another program use it?"
            )
            if self.failed:
                why = f"no frame could be used with {self.given}; the first error: {self.failed[0]['error']}"
            raise InputError(f"{self.source.name}: {why}")
        if self.source.video and declared and read < _TRUNCATED * declared:
            self.fail({"error": f"only {read} of {declared} frames could be read; the file may be truncated"})

    def summary(self) -> dict[str, Any]:
        """The fields of the summary."""
        seconds = (self.ended or time.perf_counter()) - self.began
        return {
            "frames": self.frames,
            "people": self.people,
            "failed": self.failed,
            "interrupted": self.stop.number != 0,
            "seconds": round(seconds, 3),
            "frames_per_second": round(self.frames / max(seconds, 1e-9), 2),
            "ms_per_frame": {k: round(1e3 * v / max(1, self.frames), 3) for k, v in self.seconds.items()},
            "ms_per_person": round(1e3 * self.seconds["pose"] / self.people, 3) if self.people else None,
        }

    def lines(self) -> list[str]:
        """The summary for a terminal."""
        s = self.summary()
        failed = f", failed {len(self.failed)}" if self.failed else ""
        one, several = self.subject
        stopped = ", interrupted" if self.stop.number else ""
        counts = f"frames {self.frames}, {several} {self.people}{failed}{stopped}"
        stages = " + ".join(f"{name} {ms:.1f}" for name, ms in s["ms_per_frame"].items())
        per_person = f"; pose per {one} {s['ms_per_person']:.1f}" if self.people else ""
        return [
            f"{self.source.name}: {counts}, {s['seconds']:.1f} s, {s['frames_per_second']:.1f} frames/s",
            f"ms per frame, side by side: {stages}{per_person}",
        ]
