"""Files that are either whole or absent: written beside their final name, then renamed; and the folder of the cache."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import InputError

CACHE = "POSERT_CACHE"
"""Environment variable with the folder of `cache_folder`."""


def cache_folder() -> Path:
    """Where lies what can be made or downloaded anew: $POSERT_CACHE, else $XDG_CACHE_HOME/posert, else ~/.cache/posert.

    A variable that is set to nothing counts as not set, as XDG's specification says.
    """
    if os.environ.get(CACHE):
        return Path(os.environ[CACHE])
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "posert"


def check_writable(path: str | os.PathLike[str]) -> None:
    """Find out before the work whether `atomic_write` can write there, by making a file; folders are made later.

    Raises:
        InputError: there is a folder of this name, or no folder in which files can be made.
    """
    path = Path(path)
    folder = _folder(path)
    try:  # os.access is wrong of /proc, and of network folders that take no root for root
        descriptor, probe = tempfile.mkstemp(prefix=f".{path.name}.", dir=folder)
        os.close(descriptor)
        os.unlink(probe)
    except OSError as error:
        raise _cannot(path, error, f"no file can be made in {folder}: ") from error


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file to write, which takes the place of `path` when the block ends without an exception.

    Raises:
        InputError: there can be no such file there, or what is written to it cannot be. Other errors of the block, also
            an OSError, stay what they are.
    """
    path = Path(path)
    _folder(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise _cannot(path, error) from error
    raw = _Noting(descriptor, "wb")
    try:
        with io.BufferedWriter(raw) as file:
            yield file
        try:
            os.chmod(temporary, 0o644)  # mkstemp makes files that nobody else can read
            os.replace(temporary, path)
        except OSError as error:
            raw.failure = error
            raise
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if raw.failure is not None and isinstance(error, OSError):
            raise _cannot(path, raw.failure) from error
        raise


class _Noting(io.FileIO):
    """Keeps what went wrong with this file, to tell it from other errors of the block that writes it."""

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.failure = error
            raise


def _folder(path: Path) -> Path:
    """The nearest folder that there is.

    Raises:
        InputError: there is a file in its place, or something that is no file in the place of the path.
    """
    folder = next((p for p in path.absolute().parents if p.exists()), path)  # the root has no parents
    reason = "there is a folder of this name" if path.is_dir() else ""
    if not folder.is_dir():
        reason = f"{folder} is no folder"
    elif not reason and path.exists() and not path.is_file():
        reason = "it is no ordinary file, and would be replaced by one"  # /dev/null
    if reason:
        raise InputError(f"cannot write {path}: {reason}; choose another place")
    return folder


def _cannot(path: Path, error: OSError, why: str = "") -> InputError:
    if error.errno != errno.ENOSPC:
        return InputError(f"cannot write {path}: {why}{error.strerror}; choose another place")
    free = shutil.disk_usage(next(p for p in path.absolute().parents if p.exists())).free / 1e6
    return InputError(
        f"cannot write {path}: no space left on the disk, {free:.0f} MB are free; make room or choose another place"
    )
