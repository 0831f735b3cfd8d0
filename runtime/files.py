"""Files that are either whole or absent: written beside their final name, then renamed; and the folder of the cache."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .errors import InputError

CACHE = "POSERT_CACHE"
"""Environment variable with the folder of `cache_folder`."""


def cache_folder() -> Path:
    """Where lies what can be made or downloaded anew: $POSERT_CACHE, else $XDG_CACHE_HOME/posert, else ~/.cache/posert.

    A variable that is set to nothing counts as not set, as XDG's specification says.
    """
    if os.environ.get(CACHE):
        return Path(os.environ[CACHE])
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "posert"


def check_place(path: str | os.PathLike[str]) -> None:
    """Find out before the work whether `whole_file` can write there.

    Raises:
        InputError: there is a folder of this name, or no folder that may be written.
    """
    path = Path(path)
    folder = next((p for p in path.absolute().parents if p.exists()), path)  # the root has no parents
    reason = "there is a folder of this name" if path.is_dir() else ""
    if not folder.is_dir():
        reason = f"{folder} is no folder"
    elif not os.access(folder, os.W_OK):
        reason = f"the folder {folder} may not be written"
    if reason:
        raise InputError(f"cannot write {path}: {reason}; choose another place")


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file to write, which takes the place of `path` when the block ends without an exception.

    Raises:
        InputError: there can be no such file there.
    """
    path = Path(path)
    check_place(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another place") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        os.chmod(temporary, 0o644)  # mkstemp makes files that nobody else can read
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
