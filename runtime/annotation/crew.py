"""The workers of a run: one process per device, each with a shard at a time; another gets what a dead one had."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import PosertError
from ..system.machine import processors
from ..system.process import JsonProcess, ProcessError
from .devices import Device
from .settings import Settings
from .shard import Shard

_TICK = 0.5  # seconds after which `work` gives control back although nothing happened
CRASHES = 2  # of workers, after which their shard has failed
_DEATHS = 5  # of a device's workers one after the other, after which it gets none
DECODERS = 8  # images that a worker decodes side by side, at most
_MODULE = "posert.runtime.annotation.worker"


@dataclass(frozen=True)
class Event:
    """What a worker told.

    Attributes:
        device: of the worker, such as cpu:0.
        kind: "ready", "progress", "done", "failed", "warning", "crashed" or "lost": the device gets no worker any more.
        shard: that it is about; None where it is about none.
        told: of a shard that is done what the journal keeps, of one in progress its `frames` and `people`.
        why: of the other kinds.
    """

    device: str
    kind: str
    shard: Shard | None
    told: Mapping[str, Any]
    why: str = ""


class _Worker:
    def __init__(self, device: Device, setup: Mapping[str, Any], heard: queue.Queue[tuple[_Worker, Any]]) -> None:
        self.device, self.ready = device, False
        self.shard: Shard | None = None
        self._process = JsonProcess(_command(device), env=_environment(device))
        self._heard = heard
        self._process.send(**setup)
        self._thread = threading.Thread(target=self._listen, name=f"posert-{device}", daemon=True)
        self._thread.start()

    def give(self, shard: Shard) -> None:
        self.shard = shard
        self._process.send(**shard.to_json())

    def close(self) -> None:
        self._process.kill()
        self._thread.join()
        self._process.close()

    def _listen(self) -> None:
        while True:
            try:
                answer = self._process.read()
            except (ProcessError, ValueError) as error:  # ValueError: half a line of a process that was killed
                self._heard.put((self, error))
                return
            self._heard.put((self, answer))


class Crew:
    """Workers on devices.

    Args:
        devices: one worker each.
        settings: how they annotate.
        target: path or URL of the folder that the complete files go to.
        work: folder for those that are not complete.
    """

    def __init__(self, devices: Sequence[Device], settings: Settings, target: str, work: Path) -> None:
        self._devices = devices
        self._setup = {"settings": settings.to_json(), "target": target, "work": str(work)}
        self._heard: queue.Queue[tuple[_Worker, Any]] = queue.Queue()
        self._workers: list[_Worker] = []
        self._crashes: Counter[int] = Counter()
        self._deaths: Counter[Device] = Counter()

    def work(self, shards: Iterable[Shard]) -> Iterator[Event | None]:
        """Hand out shards, and tell what becomes of them; None every so often. All workers end with the generator.

        Raises PosertError: results cannot be written, or no device is left.
        """
        waiting = deque(shards)
        try:
            for device in self._devices[: len(waiting)]:
                self._start(device)
            while waiting or any(worker.shard for worker in self._workers):
                try:
                    worker, answer = self._heard.get(timeout=_TICK)
                except queue.Empty:
                    yield None
                    continue
                yield from self._take(worker, answer, waiting)
        finally:
            for worker in self._workers:
                worker.close()

    def _start(self, device: Device) -> None:
        cores = list(device.numbers) if device.kind == "cpu" else []
        share = len(cores) or max(1, len(processors()) // len(self._devices))
        setup = {**self._setup, "threads": len(cores) or None, "decoders": min(DECODERS, share)}
        self._workers.append(_Worker(device, setup, self._heard))

    def _take(self, worker: _Worker, answer: Any, waiting: deque[Shard]) -> Iterator[Event]:
        device, shard = worker.device, worker.shard
        if worker not in self._workers:  # the last words of one that was ended
            return
        if isinstance(answer, Exception):
            yield from self._bury(worker, answer, waiting)
        elif "broken" in answer:
            raise PosertError(answer["broken"])
        elif "warning" in answer:
            yield Event(str(device), "warning", shard, {}, answer["warning"])
        elif "frames" in answer:
            yield Event(str(device), "progress", shard, answer)
        elif "unfit" in answer:
            self._remove(worker)
            yield Event(str(device), "lost", None, {}, answer["unfit"])
            self._check(answer["unfit"])
        else:
            worker.ready, worker.shard = True, None
            self._hand_out(waiting)  # before the event is dealt with: the worker must not wait for that
            if "done" in answer:
                self._deaths[device] = 0
                yield Event(str(device), "done", shard, {**answer["done"], "peak_mb": answer["peak_mb"]})
            elif "failed" in answer:
                self._deaths[device] = 0
                yield Event(str(device), "failed", shard, {}, answer["failed"])
            else:
                yield Event(str(device), "ready", None, {})

    def _bury(self, worker: _Worker, error: Exception, waiting: deque[Shard]) -> Iterator[Event]:
        """A worker ended: its shard and its device go to the next one."""
        device, shard = worker.device, worker.shard
        self._remove(worker)
        self._deaths[device] += 1
        why = f"the worker {error}"
        if shard is not None:
            self._crashes[shard.number] += 1
            if self._crashes[shard.number] < CRASHES:
                waiting.appendleft(shard)
                yield Event(str(device), "crashed", shard, {}, why)
            else:
                yield Event(str(device), "failed", shard, {}, f"{why}; so did another one before, with the same shard")
        if self._deaths[device] >= _DEATHS:
            why = f"{_DEATHS} workers ended one after the other; the last one {error}"
            yield Event(str(device), "lost", None, {}, why)
            self._check(why)
        elif waiting:
            self._start(device)
        self._hand_out(waiting)

    def _hand_out(self, waiting: deque[Shard]) -> None:
        for worker in self._workers:
            if waiting and worker.ready and worker.shard is None:
                worker.give(waiting.popleft())

    def _remove(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.close()

    def _check(self, why: str) -> None:
        if not self._workers:
            raise PosertError(f"no worker is left: {why}")


def _command(device: Device) -> list[str]:
    if device.kind == "cpu" and sys.platform == "linux":
        # before any library is loaded: they count the processors and start threads then
        cores = ",".join(map(str, device.numbers))
        run = f"import os, runpy; os.sched_setaffinity(0, [{cores}]); runpy.run_module({_MODULE!r}, None, '__main__')"
        return [sys.executable, "-c", run]
    return [sys.executable, "-m", _MODULE]


def _environment(device: Device) -> dict[str, str]:
    """GPUs are chosen by the variable that every CUDA library reads. FFmpeg's remarks on damaged files are left out."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = ""
    if device.kind == "cuda":
        gpus = str(device.numbers[0])
        if visible:  # then the number counts among those
            with contextlib.suppress(IndexError):
                gpus = visible.split(",")[device.numbers[0]].strip()
    return {**os.environ, "CUDA_VISIBLE_DEVICES": gpus, "OPENCV_FFMPEG_LOGLEVEL": "-8"}
