"""Files that are complete or absent: written under a temporary name, then renamed. Also temporary and cache folders."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import secrets
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
        probe = _temporary(folder / path.name)
        try:
            os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        finally:
            with contextlib.suppress(OSError):
                probe.unlink()


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
    temporary, file = _temporary(path), None
    try:
        with _reporting(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(path.parent.absolute())
            file = io.BufferedWriter(_File(temporary, path))
            _lock(file.fileno())
        yield file
        file.close()
        with _reporting(path):
            os.chmod(temporary, 0o644)  # until now only its owner could read it
            os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(InputError):  # what is left in the buffer is not wanted, so the first error passes on
            if file is not None:
                file.close()
        with contextlib.suppress(OSError):  # it may not be there
            temporary.unlink()
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
    new, descriptor = _temporary(path), None
    old = new.with_name(f"{new.name}.old")  # never removed as abandoned: it is the only one then
    try:
        with _reporting(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(path.parent.absolute())
            os.mkdir(new, 0o700)
            descriptor = _lock_folder(new)
        yield new
        with _reporting(path):
            os.chmod(new, 0o755)  # until now only its owner could read it
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


class TemporaryFolder:
    """A folder for temporary files, which goes with this object or at the end of a `with` block.

    First those of processes that were killed are removed. Raises OSError: it cannot be created.

    Args:
        purpose: part of its name.
        top: the folder that it is made in (default: the system's for temporary files).

    Attributes:
        name: its path.
    """

    def __init__(self, purpose: str, top: Path | None = None) -> None:
        top = Path(tempfile.gettempdir()) if top is None else top.absolute()
        _remove_abandoned(top)
        self.name = str(_temporary(top / f"posert-{purpose}"))
        lock: list[int] = []
        # Before the folder is there: a signal may come right behind it.
        self._remove = weakref.finalize(self, _remove_folder, self.name, lock)
        os.mkdir(self.name, 0o700)
        if (descriptor := _lock_folder(Path(self.name))) is not None:
            lock.append(descriptor)

    def __enter__(self) -> str:
        return self.name

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Remove it now; again does nothing."""
        self._remove()


def _remove_folder(path: str, lock: list[int]) -> None:
    shutil.rmtree(path, ignore_errors=True)
    for descriptor in lock:
        os.close(descriptor)


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

    def __init__(self, temporary: Path, path: Path) -> None:
        super().__init__(temporary, "xb", opener=_open_new)
        self._path = path

    def write(self, data: Any, /) -> int:
        with _reporting(self._path):
            return super().write(data)


def _open_new(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


def _temporary(path: Path) -> Path:
    """The name of what becomes `path`. It is known before the file is there, which a signal may leave at any moment."""
    # File systems take names of 255 bytes, and this one is longer than the other.
    name = os.fsencode(path.name)[:200].decode(errors="ignore")
    return path.parent / f".{name}.{secrets.token_hex(8)}{_PART}"


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
