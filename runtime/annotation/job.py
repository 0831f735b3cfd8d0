"""A run on the folder of an annotation: what is missing is done, what is done stays."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bundle.archive import Bundle
from ..errors import InputError, PosertError
from ..page import write_summary
from ..system.files import atomic_write, check_writable
from ..system.lock import FolderLock
from .crew import Crew, Event
from .devices import Device
from .folder import FRAMES, JOB, JOURNAL, LOCK, PAGE, PEOPLE, PLAN, SUMMARY, WORK
from .ledger import Ledger
from .plan import Plan
from .progress import Progress
from .settings import Settings, differences
from .sources import Found

SCHEMA = 1
_BEAT = 10.0  # seconds between two signs of life
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


def annotate(
    found: Sequence[Found],
    settings: Settings,
    devices: Sequence[Device],
    output: Path,
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
        devices: one worker each.
        output: the folder; it is created.
        limits: what to do about failures.
        say: gets warnings and failures.
        show: gets the state of the run several times a second.

    Raises:
        InputError: the folder cannot be used: it is of other settings, or cannot be written.
        LockedError: another run uses it.
        PosertError: no worker can run, or results cannot be written. What was done stays.
        KeyboardInterrupt: a signal ended the run. What was done stays.
    """
    limits = limits or Limits()
    _check_pyarrow()
    output = output.absolute()
    check_folder(output)
    if not found and not (output / PLAN).is_file():
        raise InputError("no sources: name images, folders, videos or tar files")
    with _errors(output):
        output.mkdir(parents=True, exist_ok=True)
    with FolderLock(output / LOCK) as lock:
        if lock.took_over:
            say(f"{output}: continues a run that ended without a word")
        facts = _check_fingerprint(output, settings)
        with _work_folder(output) as work, contextlib.closing(Ledger(output)) as ledger:
            plan = Plan(output / PLAN)
            new = plan.extend(found, settings.images, settings.frames)
            todo = ledger.left(plan.shards, limits.retry_failed)
            _say_start(say, plan, new, ledger, todo)
            run = _Run(output, plan, ledger, Progress(plan.shards, ledger.outcomes, todo), limits, say, facts)
            try:
                for event in Crew(devices, settings, output, work).work(todo):
                    lock.beat()
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
        output: Path,
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
            told = {k: event.told[k] for k in ("frames", "people", "failed", "note", "bytes", "seconds")}
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
            "output": str(self._output),
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
        with atomic_write(self._output / SUMMARY) as file:
            file.write(json.dumps(summary, indent=1).encode() + b"\n")
        write_summary(self._output / PAGE, summary, self._facts)
        return summary


def check_folder(output: Path) -> None:
    """Check that a folder is new, empty or of an annotation. Raises InputError: it is not, or cannot be written."""
    if output.is_dir():
        own = {JOB, PLAN, JOURNAL, LOCK, PEOPLE, FRAMES, SUMMARY, PAGE}
        names = {path.name for path in output.iterdir()}
        if names and JOB not in names and (others := sorted(n for n in names - own if not n.startswith((WORK, ".")))):
            raise InputError(f"{output}: holds {others[0]}, and no annotation; choose a new or empty folder")
    check_writable(output / SUMMARY)


def _check_fingerprint(output: Path, settings: Settings) -> dict[str, Any]:
    """Compare the fingerprint with that of the folder, or write it into a new one; returns it."""
    path, now = output / JOB, settings.fingerprint()
    if path.is_file():
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
            schema, then = there["annotation"], dict(there["fingerprint"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: cannot be read ({error}); choose another folder") from error
        if schema != SCHEMA:
            raise InputError(f"{path}: of schema {schema}, expected {SCHEMA}; choose another folder")
        if found := differences(then, now):
            raise InputError(
                f"{output} holds results of another kind, which must not be mixed: {'; '.join(found)}. Choose another "
                "folder, or run with what is there"
            )
        return now
    with Bundle(settings.bundle) as bundle:
        contract = bundle.contract
    with atomic_write(path) as file:
        job = {"annotation": SCHEMA, "fingerprint": now, "settings": settings.to_json(), "contract": contract.to_json()}
        file.write(json.dumps(job, indent=1).encode() + b"\n")
    return now


@contextlib.contextmanager
def _work_folder(output: Path) -> Iterator[Path]:
    """A new folder for files that are not complete; those of runs that were killed are removed."""
    with _errors(output):
        for path in output.iterdir():
            if path.name.startswith(WORK):
                shutil.rmtree(path, ignore_errors=True)
            elif path.name.startswith("."):  # of `atomic_write`
                path.unlink(missing_ok=True)
        for part in (PEOPLE, FRAMES):
            (output / part).mkdir(exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=WORK, dir=output))
        for part in (PEOPLE, FRAMES):
            (work / part).mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def _errors(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write {output}: {error.strerror}; choose another folder") from error


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
