"""The workers of a run on Ray: actors with a shard at a time; another gets what a dead one had."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..annotation.crew import CRASHES, Event
from ..annotation.shard import Shard
from ..errors import PosertError
from .actor import Worker
from .cluster import Cluster, Parcel, load_ray

_TICK = 0.5  # seconds after which `work` gives control back although nothing happened
_COUNTS = 5.0  # seconds between two looks at how far the shards are
_PATIENCE = 30.0  # seconds without a worker, after which that is said
_DEATHS = 5  # more than there are workers, one after the other, after which the run ends
_THREADS = 2  # of an actor: one annotates, one tells how far that is


class _Hired:
    """An actor, as the driver knows it."""

    def __init__(self, number: int, actor: Any) -> None:
        self.actor, self.name = actor, f"worker {number}"
        self.node = ""
        self.shard: Shard | None = None
        self.asked = False


class RayCrew:
    """Workers on a Ray cluster, to which this process is connected.

    Args:
        cluster: how many workers there are, and how large.
        parcel: how they annotate.
        software: that all of them must have.
        target: path or URL of the results.
        work: folder for those that are not complete, on the disk of the target.
    """

    def __init__(self, cluster: Cluster, parcel: Parcel, software: Mapping[str, Any], target: str, work: Path) -> None:
        self._cluster, self._software = cluster, dict(software)
        self._ray = load_ray()
        self._arguments = (self._ray.put(parcel), cluster, target, str(work))
        self._actor = self._ray.remote(Worker).options(**cluster.options, max_concurrency=_THREADS, max_restarts=0)
        self._hired: list[_Hired] = []
        self._calls: dict[Any, tuple[_Hired, str]] = {}
        self._numbers = self._deaths = 0
        self._crashes: Counter[int] = Counter()
        self._looked = self._idle = time.monotonic()

    def work(self, shards: Iterable[Shard]) -> Iterator[Event | None]:
        """Hand out shards, and tell what becomes of them; None every so often. All workers end with the generator.

        Raises PosertError: results cannot be written, or workers end one after the other.
        """
        waiting = deque(shards)
        try:
            for _ in range(min(self._cluster.room(), len(waiting))):
                self._hire()
            while waiting or any(one.shard for one in self._hired):
                yield from self._look()
                ready, _ = self._ray.wait(list(self._calls), timeout=_TICK)
                if not ready:
                    yield None
                for call in ready:
                    yield from self._take(call, *self._calls.pop(call), waiting)
        finally:
            for one in self._hired:
                self._ray.kill(one.actor)

    def _hire(self) -> None:
        one = _Hired(self._numbers, self._actor.remote(*self._arguments))
        self._numbers += 1
        self._hired.append(one)
        self._call(one, "start", one.actor.start.remote(self._software))

    def _call(self, one: _Hired, kind: str, call: Any) -> None:
        self._calls[call] = one, kind

    def _look(self) -> Iterator[Event]:
        """Ask how far the shards are. While no worker has started, say now and then what they wait for."""
        now = time.monotonic()
        if now - self._looked > _COUNTS:
            self._looked = now
            for one in self._hired:
                if one.shard and not one.asked:
                    one.asked = True
                    self._call(one, "counts", one.actor.counts.remote())
        if any(one.node for one in self._hired):
            self._idle = now
        elif now - self._idle > _PATIENCE:
            self._idle = now
            has = {name: count for name, count in self._ray.available_resources().items() if name in ("CPU", "GPU")}
            needs = f"{self._cluster.cpus} CPU" + (f" and {self._cluster.gpus:g} GPU" if self._cluster.gpus else "")
            why = f"no worker has started: one needs {needs} on one machine; the cluster has free: {has or 'nothing'}"
            yield Event("ray", "warning", None, {}, why)

    def _take(self, call: Any, one: _Hired, kind: str, waiting: deque[Shard]) -> Iterator[Event]:
        if one not in self._hired:  # the last words of one that is gone
            return
        try:
            answer = self._ray.get(call)
        except self._ray.exceptions.RayError as error:
            yield from self._bury(one, error, waiting)
            return
        shard = one.shard
        if kind == "counts":
            one.asked = False
            if shard:
                yield Event(one.name, "progress", shard, answer)
        elif "broken" in answer:
            raise PosertError(answer["broken"])
        elif "unfit" in answer:
            self._remove(one)
            yield Event(one.name, "lost", None, {}, answer["unfit"])
            if not self._hired:
                raise PosertError(f"no worker is left: {answer['unfit']}")
        else:
            one.shard, self._deaths = None, 0
            self._give(one, waiting)  # before the event is dealt with: the worker must not wait for that
            if "ready" in answer:
                one.node = answer["ready"]
                one.name = f"{one.name} on {answer['host']} (process {answer['pid']})"
                yield Event(one.name, "ready", None, {})
            elif "done" in answer:
                yield Event(one.name, "done", shard, {**answer["done"], "peak_mb": answer["peak_mb"]})
            else:
                yield Event(one.name, "failed", shard, {}, answer["failed"])

    def _give(self, one: _Hired, waiting: deque[Shard]) -> None:
        if waiting:
            one.shard = waiting.popleft()
            self._call(one, "annotate", one.actor.annotate.remote(one.shard.to_json()))

    def _bury(self, one: _Hired, error: Exception, waiting: deque[Shard]) -> Iterator[Event]:
        """A worker is gone. Its shard goes to another one, and another one takes its place."""
        shard, gone = one.shard, self._node_is_gone(one.node)
        self._remove(one)
        why = "its machine is gone" if gone else f"the worker ended: {_short(error)}"
        if not gone:  # a machine that was taken away says nothing about the shard
            self._deaths += 1
        if shard is None:
            yield Event(one.name, "warning", None, {}, why)
        else:
            self._crashes[shard.number] += not gone
            if self._crashes[shard.number] < CRASHES:
                waiting.appendleft(shard)
                yield Event(one.name, "crashed", shard, {}, why)
            else:
                yield Event(one.name, "failed", shard, {}, f"{why}; so did another one before, with the same shard")
        if self._deaths >= _DEATHS + self._cluster.room():
            raise PosertError(f"{self._deaths} workers ended one after the other; the last one: {why}")
        if waiting:
            self._hire()

    def _remove(self, one: _Hired) -> None:
        self._hired.remove(one)
        self._calls = {call: (who, kind) for call, (who, kind) in self._calls.items() if who is not one}
        self._ray.kill(one.actor)

    def _node_is_gone(self, node: str) -> bool:
        return bool(node) and not any(n["NodeID"] == node and n["Alive"] for n in self._ray.nodes())


def _short(error: Exception) -> str:
    """The reason that Ray gives, without the names of the actor."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reasons = [line for line in lines if "unexpectedly" in line or "Error" in line or "killed" in line]
    return (reasons or lines or [type(error).__name__])[0]
