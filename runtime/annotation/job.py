"""A run on the folder of an annotation: what is missing is done, what is done stays."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from ..errors import InputError, PosertError
from ..page import write_summary
from ..system.files import atomic_write
from .crew import Crew, Event
from .devices import Device
from .folder import JOB, PAGE, PLAN, SUMMARY
from .job_file import read_job, write_job
from .ledger import Ledger
from .output import Output
from .places import open_output
from .plan import Plan
from .progress import Progress
from .settings import Settings, differences
from .shard import Shard
from .sources import Found

_LISTED = 1000  # shards that failed, in the summary


@dataclass(frozen=True)
class Limits:
    """What a run does about failures, and what it costs.

    Attributes:
        retry_failed: do again what failed before.
        max_failures: of frames and shards, after which the run ends; None: no limit.
        price: of an hour of everything that runs.
    """

    retry_failed: bool = False
    max_failures: int | None = None
    price: float | None = None


class Workers(Protocol):
    """Those who annotate shards, on this machine or on others."""

    def work(self, shards: Iterable[Shard]) -> Iterator[Event | None]:
        """Hand out shards, and tell what becomes of them; None every so often. All workers end with the generator.

        Raises PosertError: results cannot be written, or no worker is left.
        """


def annotate(
    found: Sequence[Found],
    settings: Settings,
    devices: Sequence[Device],
    output: str | os.PathLike[str],
    limits: Limits | None = None,
    *,
    say: Callable[[str], None] = lambda text: None,
    show: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Annotate what is not annotated yet, and return the summary, which is in `SUMMARY`, too.

    A folder holds the results of one kind of run: of those with the fingerprint of the first one. New sources may come
    with every run. Whatever ends a run, the next one continues: no frame is lost, and none is there twice.

    Args:
        found: the sources; none continues with those of the runs before.
        settings: how.
        devices: one worker each, on this machine.
        output: the folder, or the URL of one; it is created.
        limits: what to do about failures.
        say: gets warnings and failures.
        show: gets the state of the run several times a second.

    Raises:
        InputError: the folder cannot be used: it is of other settings, or cannot be written.
        LockedError: another run uses it.
        PosertError: no worker can run, or results cannot be written. What was done stays.
        KeyboardInterrupt: a signal ended the run. What was done stays.
    """
    crew = partial(Crew, devices, settings)
    return run_job(found, settings, settings.fingerprint, crew, output, limits, say=say, show=show)


def run_job(
    found: Sequence[Found],
    settings: Settings,
    fingerprint: Callable[[], dict[str, Any]],
    crew: Callable[[str, Path], Workers],
    output: str | os.PathLike[str],
    limits: Limits | None = None,
    *,
    say: Callable[[str], None],
    show: Callable[[str], None],
) -> dict[str, Any]:
    """As `annotate`, with workers of any kind.

    Args:
        fingerprint: of the settings and of the software that the workers have.
        crew: makes the workers from where results go, and a folder for those that are not complete.
    """
    limits = limits or Limits()
    _check_pyarrow()
    place = open_output(output)
    place.check()
    if not found and not place.holds(PLAN):
        raise InputError("no sources: name images, folders, videos or tar files")
    with place.held(say):
        facts = _check_fingerprint(place, settings, fingerprint())
        with contextlib.closing(Ledger(place)) as ledger:
            plan = Plan(place.state / PLAN)
            ledger.check(plan)
            new = plan.extend(found, settings.images, settings.frames)
            todo = ledger.left(plan.shards, limits.retry_failed)
            _say_start(say, plan, new, ledger, todo)
            run = _Run(place, plan, ledger, Progress(plan.shards, ledger.outcomes, todo), limits, say, facts)
            try:
                with place.working() as work:
                    for event in crew(place.target, work).work(todo):
                        place.beat()
                        show(run.progress.line())
                        if event is not None and not run.take(event):
                            break
            except BaseException as error:
                with contextlib.suppress(PosertError):  # the disk may be full
                    run.finish(error)
                raise
            return run.finish(None)


class _Run:
    """What happens with the events of a run."""

    def __init__(
        self,
        output: Output,
        plan: Plan,
        ledger: Ledger,
        progress: Progress,
        limits: Limits,
        say: Callable[[str], None],
        facts: Mapping[str, Any],
    ) -> None:
        self._output, self._plan, self._ledger, self._limits, self._say = output, plan, ledger, limits, say
        self._facts = facts
        self.progress = progress
        self._stopped = ""
        self._lost: list[str] = []

    def take(self, event: Event) -> bool:
        """Keep what an event tells; returns whether to go on."""
        shard = event.shard
        if event.kind == "done" and shard is not None:
            told = {k: event.told[k] for k in ("frames", "people", "failed", "note", "bytes", "crc32", "seconds")}
            self._ledger.done(shard, told)
            for why, count in event.told["failed"].items():
                self._say(f"{shard.title}: {count} {'frame' if count == 1 else 'frames'}: {why}")
            if event.told["note"]:
                self._say(f"{shard.title}: {event.told['note']}")
        elif event.kind == "failed" and shard is not None:
            self._ledger.failed(shard, event.why)
            self._say(f"{shard.title}: {event.why}")
        elif event.kind in ("warning", "crashed", "lost"):
            self._say(f"{event.device}{f', {shard.title}' if shard else ''}: {event.why}")
        if event.kind == "lost":
            self._lost.append(f"{event.device}: {event.why}")
        self.progress.take(event)
        most = self._limits.max_failures
        if most is not None and self.progress.failed > most:
            self._stopped = f"stopped after {self.progress.failed} failures (--max-failures {most})"
            self._say(self._stopped)
        return not self._stopped

    def finish(self, error: BaseException | None) -> dict[str, Any]:
        """Write and return the summary. Raises InputError: it cannot be written."""
        outcomes = self._ledger.outcomes
        good = [o for o in outcomes.values() if o.done]
        failed = [(s, outcomes[s.number]) for s in self._plan.shards if s.number in outcomes]
        failed = [(s, o) for s, o in failed if not o.done]
        interrupted = isinstance(error, KeyboardInterrupt)
        summary = {
            "output": self._output.target,
            "sources": len({shard.source for shard in self._plan.shards}),
            "shards": {
                "planned": len(self._plan),
                "done": len(good),
                "failed": len(failed),
                "left": len(self._plan) - len(good) - len(failed),
            },
            "frames": sum(o.frames for o in good),
            "people": sum(o.people for o in good),
            "failed_frames": sum(sum(o.failed.values()) for o in good),
            "failures": dict(self._ledger.failures().most_common()),
            "failed_shards": [{"shard": s.number, "source": s.title, "error": o.why} for s, o in failed[:_LISTED]],
            "lost_devices": self._lost,
            "interrupted": interrupted,
            "stopped": self._stopped or (None if error is None or interrupted else str(error)),
            "run": self.progress.summary(self._limits.price),
        }
        with atomic_write(self._output.state / SUMMARY) as file:
            file.write(json.dumps(summary, indent=1).encode() + b"\n")
        write_summary(self._output.state / PAGE, summary, self._facts)
        return summary


def _check_fingerprint(output: Output, settings: Settings, now: dict[str, Any]) -> dict[str, Any]:
    """Compare the fingerprint with that of the folder, or write it into a new one; returns it."""
    if not output.holds(JOB):
        write_job(output, settings, now)
        return now
    then, _ = read_job(output)
    if found := differences(then, now):
        raise InputError(
            f"{output.target} holds results of another kind, which must not be mixed: {'; '.join(found)}. Choose "
            "another folder, or run with what is there"
        )
    return now


def _say_start(say: Callable[[str], None], plan: Plan, new: int, ledger: Ledger, todo: Sequence[object]) -> None:
    done = len(plan) - len(todo)
    text = f"{len(plan)} shards, {new} of them new; {done} are done or failed before, {len(todo)} to do"
    say(text + (f"; the files of {ledger.lost} are gone" if ledger.lost else ""))


def _check_pyarrow() -> None:
    try:
        import pyarrow.parquet  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name not in ("pyarrow", "pyarrow.parquet"):
            raise
        raise PosertError(
            'posert annotate writes Parquet files: it needs the package pyarrow: pip install "posert[parquet]"'
        ) from error
