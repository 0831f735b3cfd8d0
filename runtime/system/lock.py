"""A folder that one process at a time may use, and an owner that ended without a word."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from ..errors import InputError, PosertError
from .files import open_own
from .machine import read_text

STALE = 120.0
"""Seconds without a `beat` after which an owner on another machine counts as dead."""
_TRIES = 20
_LONGEST = 1 << 16  # characters of an owner


class LockedError(PosertError):
    """Another process uses the folder."""


class FolderLock:
    """Holds `path`, a file in the folder, until `release`.

    The file names its owner. An owner on this machine is dead when no process has its number and start time; one on
    another machine, when the file has not been touched for `STALE` seconds, by the clock of the file system. Where the
    file system has flock, two processes cannot take over from a dead owner at a time.

    Raises:
        LockedError: another process holds it; the message names it.
        InputError: the file cannot be written.
    """

    def __init__(self, path: Path, stale: float = STALE) -> None:
        self.path = path
        self._stale = stale
        for _ in range(_TRIES):
            try:
                self._file: IO[str] = os.fdopen(open_own(path), "a+", encoding="utf-8")
            except OSError as error:
                raise InputError(f"cannot write {path}: {error.strerror}; choose another folder") from error
            if not _flock(self._file):
                owner = _owner(self._file)
                self._file.close()
                raise LockedError(held_by(path.parent, owner))
            if _same(self._file, path):  # not removed by its owner since it was opened
                break
            self._file.close()
        else:
            raise LockedError(f"{path} is taken and released all the time; try again")
        owner = _owner(self._file)
        if owner and self._alive(owner):
            self._file.close()
            raise LockedError(held_by(path.parent, owner))
        self.took_over = bool(owner)
        try:
            self._file.truncate(0)
            self._file.write(json.dumps(myself()))
            self._file.flush()
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.close()
            raise InputError(f"cannot write {path}: {error.strerror}; choose another folder") from error
        self.beat()

    def beat(self) -> None:
        """Say that the owner is alive; call it every few seconds."""
        with contextlib.suppress(OSError):  # a disk that is away for a moment must not end the work
            os.utime(self.path)

    def release(self) -> None:
        """Let go of the folder, and remove the file."""
        with contextlib.suppress(OSError):
            self.path.unlink()
        self._file.close()

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _alive(self, owner: dict[str, Any]) -> bool:
        if (runs := owner_runs(owner)) is not None:
            return runs
        touched = os.stat(self.path).st_mtime
        beside = self.path.with_name(f"{self.path.name}.now")
        beside.unlink(missing_ok=True)
        descriptor = open_own(beside)  # the file system's clock may differ from ours
        now = os.fstat(descriptor).st_mtime
        os.close(descriptor)
        beside.unlink(missing_ok=True)
        return now - touched < self._stale


def owner_runs(owner: dict[str, Any]) -> bool | None:
    """Whether the process that `myself` described there runs, and is not this one; None: it is of another machine."""
    me = myself()
    if owner.get("host") != me["host"]:
        return None
    same_boot = owner.get("boot") == me["boot"]
    return same_boot and (owner.get("pid"), owner.get("start")) != (me["pid"], me["start"]) and _runs(owner)


def held_by(folder: object, owner: dict[str, Any]) -> str:
    """What to say of a folder that is in use."""
    who = f"process {owner.get('pid')} on {owner.get('host')}" if owner else "another process"
    return f"{folder} is in use by {who}; wait for its end, or stop it, or choose another folder"


def myself() -> dict[str, Any]:
    """By what another process can tell whether this one still runs."""
    pid = os.getpid()
    boot = read_text(Path("/proc/sys/kernel/random/boot_id"))
    return {"host": socket.gethostname(), "boot": boot, "pid": pid, "start": start_time(pid), "since": time.time()}


def start_time(pid: int) -> int | None:
    """When a process started, in ticks since the machine did; None if there is none, or the system is not Linux."""
    text = read_text(Path(f"/proc/{pid}/stat"))
    # the second field, the program's name in brackets, may hold spaces and brackets
    fields = text.rpartition(")")[2].split()
    return int(fields[19]) if len(fields) > 19 and fields[0] not in "ZX" else None


def _runs(owner: dict[str, Any]) -> bool:
    pid = int(owner.get("pid") or 0)
    if owner.get("start") is not None:
        return start_time(pid) == int(owner["start"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _owner(file: IO[str]) -> dict[str, Any]:
    """What the file says; empty for a new one, or one whose owner was cut off while it wrote its name."""
    file.seek(0)
    try:
        owner = json.loads(file.read(_LONGEST))
    except (ValueError, OSError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _same(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _flock(file: IO[str]) -> bool:
    """Lock a file without waiting; True as well where the file system has no locks."""
    fcntl = _fcntl()
    if fcntl is None:
        return True
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
    return True


def _fcntl() -> ModuleType | None:
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        return None
    return fcntl
