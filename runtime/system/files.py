"""Files that are complete or absent: written under a temporary name, then renamed. Also temporary and cache folders."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import shutil
import stat
import tempfile
import time
import weakref
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import InputError

CACHE = "POSERT_CACHE"
"""Environment variable that overrides `cache_folder`."""

_PART = ".posert-part"  # what the name of a file ends in while it is written
_ABANDONED_S = 60.0  # without a writer for this long; one that has just begun has not locked its file yet


def cache_folder() -> Path:
    """Folder of what can be rebuilt or downloaded again: $POSERT_CACHE, $XDG_CACHE_HOME/posert or ~/.cache/posert.

    An empty variable counts as unset, as the XDG specification says.
    """
    if os.environ.get(CACHE):
        return Path(os.environ[CACHE])
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "posert"


def check_writable(path: str | os.PathLike[str]) -> None:
    """Check before a long computation that `atomic_write` will be able to write there. Creates no folder.

    Raises InputError: the path is a folder or a device, or no file can be created in its nearest existing folder.
    """
    path = Path(path)
    folder = _existing_folder(path)
    with _reporting(path, f"no file can be created in {folder}: "):
        # By creating a file: os.access is wrong about /proc and about network folders that deny root.
        descriptor, probe = tempfile.mkstemp(prefix=_prefix(path), suffix=_PART, dir=folder)
        os.close(descriptor)
        os.unlink(probe)


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a binary file that replaces `path` when the block ends without an exception; otherwise nothing remains.

    Missing folders are created. What a process left there that was killed while it wrote is removed. Raises InputError:
    the file cannot be created, written or renamed, such as on a full disk. Exceptions of the block itself, including an
    OSError, pass unchanged.
    """
    path = Path(path)
    _existing_folder(path)
    with _reporting(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path.parent.absolute())
        descriptor, temporary = tempfile.mkstemp(prefix=_prefix(path), suffix=_PART, dir=path.parent)
        _lock(descriptor)
    file = io.BufferedWriter(_File(descriptor, path))
    try:
        yield file
        file.close()
        with _reporting(path):
            os.chmod(temporary, 0o644)  # mkstemp creates files that only their owner can read
            os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(InputError):  # what is left in the buffer is not wanted, so the first error passes on
            file.close()
        Path(temporary).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str], pattern: str | None) -> Iterator[Path]:
    """Open a new folder that becomes `path` when the block ends without an exception; otherwise nothing remains.

    A folder of this name is replaced if it holds only files that match `pattern`, such as "*.json": results of an
    earlier run. With None it is replaced whatever it holds, for callers that have looked. Missing folders above it are
    created. Raises InputError: it holds something else, or it cannot be created or renamed.
    """
    path = Path(path)
    if pattern is not None and (path.exists() or path.is_symlink()):
        others = [] if not path.is_dir() else [p.name for p in path.iterdir() if not p.match(pattern) or p.is_dir()]
        if path.is_symlink() or not path.is_dir() or others:
            reason = f"it holds {others[0]}, and not only {pattern}" if others else "it is not a folder"
            raise InputError(f"cannot replace the folder {path}: {reason}; choose another path")
    with _reporting(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path.parent.absolute())
        new = Path(tempfile.mkdtemp(prefix=_prefix(path), suffix=_PART, dir=path.parent))
        descriptor = _lock_folder(new)
    old = new.with_name(f"{new.name}.old")  # never removed as abandoned: it is the only one then
    try:
        yield new
        with _reporting(path):
            os.chmod(new, 0o755)  # mkdtemp creates folders that only their owner can read
            if path.exists():
                os.rename(path, old)
            os.rename(new, path)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    finally:
        if old.exists() and not path.exists():
            os.rename(old, path)
        shutil.rmtree(old, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


class TemporaryFolder(tempfile.TemporaryDirectory[str]):
    """As `tempfile.TemporaryDirectory`; first removes those of processes that were killed.

    Args:
        purpose: part of its name.
    """

    def __init__(self, purpose: str) -> None:
        _remove_abandoned(Path(tempfile.gettempdir()))
        super().__init__(prefix=f"posert-{purpose}-", suffix=_PART)
        descriptor = _lock_folder(Path(self.name))
        self._unlock = weakref.finalize(self, os.close, descriptor) if descriptor is not None else lambda: None

    def cleanup(self) -> None:
        """Remove the folder."""
        super().cleanup()
        self._unlock()


def open_own(path: Path) -> int:
    """A descriptor of a file that is read and appended to, such as a journal or a lock; created if it is missing.

    A link is not followed, because what it names may be somebody else's. Raises OSError: it is one, or no file.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):  # without waiting for the other end of a pipe
        flags |= getattr(os, name, 0)
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a symbolic link", os.fspath(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))
    return descriptor


def write_file(path: Path, data: bytes) -> None:
    """Write a file of a folder that is not complete yet (`atomic_folder`). Raises InputError: it cannot be written."""
    with _reporting(path):
        path.write_bytes(data)


class _File(io.FileIO):
    """Reports its own write errors as InputError, which tells them from an OSError of the caller's block."""

    def __init__(self, descriptor: int, path: Path) -> None:
        super().__init__(descriptor, "wb")
        self._path = path

    def write(self, data: Any, /) -> int:
        with _reporting(self._path):
            return super().write(data)


def _prefix(path: Path) -> str:
    """The beginning of a temporary file's name: file systems take names of 255 bytes, and this one is longer."""
    return f".{os.fsencode(path.name)[:200].decode(errors='ignore')}."


@cache  # once for each folder: thousands of files may be written into one
def _remove_abandoned(folder: Path) -> None:
    """Remove the temporary files and folders of processes that were killed: nobody has locked them."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if entry.name.endswith(_PART):
                with contextlib.suppress(OSError):  # another process removed it
                    _remove_if_abandoned(entry)


def _remove_if_abandoned(entry: os.DirEntry[str]) -> None:
    status = entry.stat(follow_symlinks=False)
    is_folder, is_file = stat.S_ISDIR(status.st_mode), stat.S_ISREG(status.st_mode)
    # The folder for temporary files is open to everybody: what has the name there may be somebody else's.
    mine = os.name == "nt" or status.st_uid == os.getuid()
    if not (is_folder or is_file) or not mine or time.time() - status.st_mtime <= _ABANDONED_S:
        return
    descriptor = os.open(entry.path, os.O_RDONLY)
    try:
        if _lock(descriptor):
            shutil.rmtree(entry.path) if is_folder else os.unlink(entry.path)
    finally:
        os.close(descriptor)


def _lock_folder(folder: Path) -> int | None:
    """Lock a folder until the descriptor is closed; None on Windows, which opens no folders."""
    if os.name == "nt":
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    _lock(descriptor)
    return descriptor


def _lock(descriptor: int) -> bool:
    """Lock an open file until it is closed, which the system does for a process that ends; False if another one has."""
    try:
        import fcntl  # not on Windows
    except ImportError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # locked, or a file system without locks
        return False
    return True


@contextlib.contextmanager
def _reporting(path: Path, why: str = "") -> Iterator[None]:
    """Report an OSError as the InputError that `path` cannot be written."""
    try:
        yield
    except OSError as error:
        reason = f"{why}{error.strerror}; choose another path"
        if error.errno == errno.ENOSPC:
            free = shutil.disk_usage(next(p for p in path.absolute().parents if p.exists())).free / 1e6
            reason = f"the disk is full ({free:.0f} MB free); free some space or choose another path"
        raise InputError(f"cannot write {path}: {reason}") from error


def _existing_folder(path: Path) -> Path:
    """The nearest existing folder above a path; InputError if that is no folder, or the path is there and no file."""
    folder = next((p for p in path.absolute().parents if p.exists()), path)  # the root has no parents
    if path.is_dir():
        reason = "it is a folder"
    elif not folder.is_dir():
        reason = f"{folder} is not a folder"
    elif path.exists() and not path.is_file():  # /dev/null
        reason = "it is not a regular file"
    else:
        return folder
    raise InputError(f"cannot write {path}: {reason}; choose another path")
