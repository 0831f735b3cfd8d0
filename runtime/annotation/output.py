"""Where the results of an annotation lie: a folder of this machine, or of a disk that machines share."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import InputError
from ..system.files import check_writable
from ..system.lock import FolderLock
from .folder import FRAMES, JOB, JOURNAL, LOCK, PAGE, PEOPLE, PLAN, SUMMARY, WORK

OWN = {JOB, PLAN, JOURNAL, LOCK, PEOPLE, FRAMES, SUMMARY, PAGE}


class Output:
    """A folder of results.

    Args:
        folder: its path.

    Attributes:
        target: its absolute path, or its URL, for workers.
        state: folder of this machine that holds the plan, the journal and the summary while it is `held`.
    """

    def __init__(self, folder: Path) -> None:
        self.state = folder.absolute()
        self.target = str(self.state)
        self._lock: FolderLock | None = None

    def check(self) -> None:
        """Check that it is new, empty or of an annotation. Raises InputError: it is not, or cannot be written."""
        if self.state.is_dir():
            check_names(self.target, {path.name for path in self.state.iterdir()})
        check_writable(self.state / SUMMARY)

    def holds(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return (self.state / name).is_file()

    @contextlib.contextmanager
    def held(self, say: Callable[[str], None]) -> Iterator[None]:
        """Hold the folder: no other run uses it.

        Raises:
            LockedError: another one does.
            InputError: it cannot be written.
        """
        with _errors(self.state):
            self.state.mkdir(parents=True, exist_ok=True)
        with FolderLock(self.state / LOCK) as self._lock:
            if self._lock.took_over:
                say(f"{self.target}: continues a run that ended without a word")
            yield

    @contextlib.contextmanager
    def working(self) -> Iterator[Path]:
        """A new folder for files that are not complete, beside those that are; those of killed runs are removed."""
        with _errors(self.state):
            for path in self.state.iterdir():
                if path.name.startswith(WORK):
                    shutil.rmtree(path, ignore_errors=True)
                elif path.name.startswith("."):  # of `atomic_write`
                    path.unlink(missing_ok=True)
            for part in (PEOPLE, FRAMES):
                (self.state / part).mkdir(exist_ok=True)
            work = Path(tempfile.mkdtemp(prefix=WORK, dir=self.state))
            make_parts(work)
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def beat(self) -> None:
        """Say that the run is alive; call it every second or so. Raises PosertError: the folder is held no more."""
        if self._lock is not None:
            self._lock.beat()

    def sizes(self) -> Callable[[str], int]:
        """A function that gives the bytes of a result file by its name, such as people/00000000.parquet; -1: none."""
        return lambda name: file.stat().st_size if (file := self.state / name).is_file() else -1


def make_parts(work: Path) -> None:
    """Create the folders of the two tables."""
    for part in (PEOPLE, FRAMES):
        (work / part).mkdir(parents=True, exist_ok=True)


def check_names(target: str, names: set[str]) -> None:
    """Check what is in a folder. Raises InputError: other things than an annotation."""
    if names and JOB not in names and (others := sorted(n for n in names - OWN if not n.startswith((WORK, ".")))):
        raise InputError(f"{target}: holds {others[0]}, and no annotation; choose a new or empty folder")


@contextlib.contextmanager
def _errors(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write {output}: {error.strerror}; choose another folder") from error
