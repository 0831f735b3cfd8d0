"""Results in object storage, by URL: shards are objects, and the journal is one object for each few seconds."""

from __future__ import annotations

import contextlib
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..system.files import TemporaryFolder
from ..system.lock import STALE, LockedError, held_by, myself, owner_runs
from ..system.storage import Storage
from .folder import FRAMES, JOB, JOURNAL, LOCK, PAGE, PEOPLE, PLAN, SUMMARY
from .output import Output, check_names, make_parts

SEGMENTS = "journal"
"""Folder of the journal's parts."""
_PUSH = 5.0  # seconds between two of them; what was done after the last one is done again if the run is killed
_BEAT = 20.0  # seconds between two signs of life
_SETTLE = 2.0  # seconds that two who take over from a dead owner at a time have to see each other


class RemoteOutput(Output):
    """A folder of results by URL. Plan and journal are copied to a folder of this machine while it is `held`.

    Raises PosertError: a package for the URL is missing. Raises InputError: no storage has such URLs.
    """

    def __init__(self, url: str) -> None:
        self._storage = Storage(url)
        self.target = self._storage.url
        self.state = Path()
        self._claim: _Claim | None = None
        self._pushed: dict[str, int] = {}  # bytes of the journal, and times of the other files
        self._segments, self._last = 0, 0.0

    def check(self) -> None:
        """Check that it is new, empty or of an annotation. Raises InputError: it is not, or cannot be written."""
        check_names(self.target, self._storage.names() - {SEGMENTS})
        probe = f".posert-{uuid.uuid4().hex}"
        self._storage.write(probe, b"")
        self._storage.remove(probe)

    def holds(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return self._storage.exists(name)

    @contextlib.contextmanager
    def held(self, say: Callable[[str], None]) -> Iterator[None]:
        """As of `Output`; what changed is in the storage when the block ends."""
        self._claim = _Claim(self._storage)
        try:
            with TemporaryFolder("state") as state:
                self.state = Path(state)
                if self._claim.took_over:
                    say(f"{self.target}: continues a run that ended without a word")
                self._pull()
                try:
                    yield
                except BaseException:
                    with contextlib.suppress(InputError):  # the storage may be what failed
                        self._push()
                    raise
                self._push()
        finally:
            self._claim.release()

    @contextlib.contextmanager
    def working(self) -> Iterator[Path]:
        """A new folder of this machine for files that are not complete."""
        self._push()  # the plan, so that no shard is there without it
        with TemporaryFolder("work") as work:
            make_parts(Path(work))
            yield Path(work)

    def beat(self) -> None:
        """Keep what was done. Raises LockedError: another run took over. Raises InputError: it cannot be written."""
        if time.monotonic() - self._last > _PUSH:
            if self._claim is not None:
                self._claim.beat()
            self._push()

    def sizes(self) -> Callable[[str], int]:
        """As of `Output`, from one list of all objects."""
        found = {f"{part}/{name}": size for part in (PEOPLE, FRAMES) for name, size in self._listed(part)}
        return lambda name: found.get(name, -1)

    def _listed(self, part: str) -> list[tuple[str, int]]:
        return list(self._storage.sizes(part).items())

    def _pull(self) -> None:
        for name in (JOB, PLAN):
            if self._storage.exists(name):
                self._storage.get(name, self.state / name)
                self._pushed[name] = (self.state / name).stat().st_mtime_ns
        parts = sorted(self._storage.sizes(SEGMENTS))
        numbers = [int(found[1]) for name in parts if (found := re.match(r"(\d+)-", name))]
        self._segments = max(numbers, default=-1) + 1
        with (self.state / JOURNAL).open("wb") as journal:
            for name in parts:
                journal.write(self._storage.read(f"{SEGMENTS}/{name}"))
            self._pushed[JOURNAL] = journal.tell()

    def _push(self) -> None:
        """The plan before the journal, which tells of its shards."""
        for name in (JOB, PLAN, SUMMARY, PAGE):
            file = self.state / name
            if file.is_file() and (written := file.stat().st_mtime_ns) != self._pushed.get(name):
                self._storage.put(file, name)
                self._pushed[name] = written
        with (self.state / JOURNAL).open("rb") as journal:
            journal.seek(self._pushed[JOURNAL])
            data = journal.read()
        if data:
            # a name of its own, should two runs ever write at a time
            self._storage.write(f"{SEGMENTS}/{self._segments:08d}-{uuid.uuid4().hex[:8]}.jsonl", data)
            self._pushed[JOURNAL] += len(data)
            self._segments += 1
        self._last = time.monotonic()


class _Claim:
    """An object that says who uses the folder.

    An owner on this machine is dead when its process is; one on another, when the object was not written for `STALE`
    seconds. Raises LockedError: the owner is alive. Raises InputError: the object cannot be written.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage, self._last = storage, time.monotonic()
        self._me = json.dumps({**myself(), "token": uuid.uuid4().hex}).encode()
        self.took_over = False
        if storage.create(LOCK, self._me):
            return
        owner = self._owner()
        runs, age = owner_runs(owner), storage.age(LOCK)
        if runs or (runs is None and (age is None or age < STALE)):
            raise LockedError(held_by(storage.url, owner))
        storage.write(LOCK, self._me)
        time.sleep(_SETTLE)
        self._check()
        self.took_over = True

    def beat(self) -> None:
        """Say that the owner is alive. Raises LockedError: somebody else took over."""
        if time.monotonic() - self._last > _BEAT:
            self._check()
            self._storage.write(LOCK, self._me)
            self._last = time.monotonic()

    def release(self) -> None:
        """Remove the object, if it is still ours."""
        with contextlib.suppress(InputError, LockedError):
            self._check()
            self._storage.remove(LOCK)

    def _check(self) -> None:
        if self._storage.read(LOCK) != self._me:
            raise LockedError(held_by(self._storage.url, self._owner()))

    def _owner(self) -> dict[str, Any]:
        try:
            owner = json.loads(self._storage.read(LOCK))
        except ValueError:
            return {}
        return owner if isinstance(owner, dict) else {}
