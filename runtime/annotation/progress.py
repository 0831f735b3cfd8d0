"""How far a run is, how fast it is and what it costs."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from .crew import Event
from .ledger import Outcome
from .shard import Shard


class Progress:
    """Counts of a run, from the events of its workers.

    Args:
        shards: the whole plan.
        outcomes: what became of shards before this run, by number.
        todo: shards of this run.
    """

    def __init__(self, shards: Iterable[Shard], outcomes: Mapping[int, Outcome], todo: Iterable[Shard]) -> None:
        self._left = {shard.number: shard.frames for shard in todo}
        known = [frames for frames in self._left.values() if frames is not None]
        self._known, self._frames_known = len(known), sum(known)  # a sum over all shards would cost each event more
        others = [s for s in shards if s.number not in self._left]
        self._before = sum(outcomes[s.number].frames for s in others if s.number in outcomes)
        self._began = time.perf_counter()
        self._ready: float | None = None
        self._running: dict[int, Mapping[str, Any]] = {}
        self.frames = self.people = self.failed = self.crashed = 0
        self.seconds: Counter[str] = Counter()
        self.workers: dict[str, dict[str, Any]] = defaultdict(lambda: {"shards": 0, "frames": 0, "peak_mb": None})

    def take(self, event: Event) -> None:
        """Count an event."""
        if event.kind == "ready" and self._ready is None:
            self._ready = time.perf_counter()
        shard = event.shard
        if shard is None:
            return
        if event.kind == "progress":
            self._running[shard.number] = event.told
            return
        if event.kind == "warning":
            return
        self._running.pop(shard.number, None)
        if event.kind == "crashed":
            self.crashed += 1
            return
        if (frames := self._left.pop(shard.number, None)) is not None:
            self._known, self._frames_known = self._known - 1, self._frames_known - frames
        if event.kind == "failed":
            self.failed += 1
            return
        self.frames += event.told["frames"]
        self.people += event.told["people"]
        self.failed += sum(event.told["failed"].values())
        self.seconds.update(event.told["seconds"])
        worker = self.workers[event.device]
        worker["shards"] += 1
        worker["frames"] += event.told["frames"]
        worker["peak_mb"] = event.told["peak_mb"]

    def line(self) -> str:
        """For a terminal: frames of all, frames and people per second, time left."""
        frames = self.frames + sum(told["frames"] for told in self._running.values())
        people = self.people + sum(told["people"] for told in self._running.values())
        left = self._frames_left()
        elapsed = self._elapsed()
        text = f"{self._before + frames:,} of {self._before + frames + left:,} frames"
        if frames and elapsed:
            text += f", {frames / elapsed:.1f} frames/s, {people / elapsed:.1f} people/s"
            text += f", {clock(left * elapsed / frames)} left"
        return text + (f", {self.failed:,} failed" if self.failed else "")

    def summary(self, price: float | None) -> dict[str, Any]:
        """Figures of the run.

        Args:
            price: of an hour of everything that runs.
        """
        seconds = time.perf_counter() - self._began
        hours = seconds / 3600
        return {
            "frames": self.frames,
            "people": self.people,
            "failed": self.failed,
            "seconds": round(seconds, 3),
            "frames_per_second": _rate(self.frames, self._elapsed()),
            "people_per_second": _rate(self.people, self._elapsed()),
            "stages": {
                stage: {
                    "seconds": round(spent, 3),
                    "frames_per_second": _rate(self.frames, spent),
                    "people_per_second": _rate(self.people, spent),
                }
                for stage, spent in self.seconds.items()
            },
            "workers": dict(self.workers),
            "crashed_workers": self.crashed,
            "price_per_hour": price,
            "cost_per_million_frames": round(1e6 * hours * price / self.frames, 4) if price and self.frames else None,
        }

    def _elapsed(self) -> float:
        """Seconds since the first worker was ready."""
        return time.perf_counter() - self._ready if self._ready is not None else 0.0

    def _frames_left(self) -> int:
        """Of the shards that are not done; one of unknown length counts as the mean of the others."""
        mean = self._frames_known / self._known if self._known else 0.0
        total = self._frames_known + mean * (len(self._left) - self._known)
        return max(0, round(total) - sum(int(told["frames"]) for told in self._running.values()))


def clock(seconds: float) -> str:
    """A duration: "0:42", "1:03:20", "2 d 3:00:00"."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    text = f"{hour}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
    return f"{days} d {text}" if days else text


def _rate(count: int, seconds: float) -> float | None:
    return round(count / seconds, 2) if seconds > 0 else None
