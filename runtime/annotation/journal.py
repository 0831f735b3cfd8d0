"""What was done and what failed: a file that grows by whole lines and survives a kill at any byte."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..system.files import open_own
from ..system.sealed_lines import line_of, read_lines

_BLOCK = 1 << 20


class Journal:
    """JSON objects in a file, one a line, each behind the CRC-32 of its text.

    Lines are only appended. A last line that was cut short is dropped; other lines whose sum does not fit are passed
    over and counted in `damaged`: what they told is not known. Memory does not grow with the file.

    Raises InputError: the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.damaged = path, 0
        try:
            # without a buffer, which would keep, and write later, what a full disk refused
            self._file = os.fdopen(open_own(path), "a+b", buffering=0)
            self._drop_tail()
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error

    def records(self) -> Iterator[dict[str, Any]]:
        """What the file holds, oldest first."""
        self.damaged = 0
        for record in read_lines(self.path):
            if record is None:
                self.damaged += 1
            else:
                yield record

    def add(self, record: dict[str, Any]) -> None:
        """Append an object; it is on the disk when this returns. Raises InputError: it cannot be written."""
        size = os.fstat(self._file.fileno()).st_size
        try:
            line = line_of(record)
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError as error:
            os.ftruncate(self._file.fileno(), size)  # half a line must not stand before the next
            raise InputError(f"cannot write {self.path}: {error.strerror}; free some space") from error

    def close(self) -> None:
        """Close the file, which stays."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _drop_tail(self) -> None:
        """Cut off a last line that does not end."""
        end = self._file.seek(0, os.SEEK_END)
        at = end
        while at:
            start = max(0, at - _BLOCK)
            self._file.seek(start)
            found = self._file.read(at - start).rfind(b"\n")
            if found >= 0:
                at = start + found + 1
                break
            at = start
        if at != end:
            self._file.truncate(at)
