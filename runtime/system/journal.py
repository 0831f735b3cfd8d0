"""A journal of finished work: a run that was interrupted continues where it stopped."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

from .files import open_own

_LONGEST = 16 << 20  # of a line; the zeros that a power cut may leave have no end of line
_BEFORE, _AFTER = len('["01234567", '), len("]\n")


class Journal:
    """JSON values in a file, one per line, each written as soon as it is added; `records` holds them all.

    The first line is a key: a JSON value that says what the records belong to. A file with the same key is continued;
    any other file is started over. Each line is a pair of a checksum, of this value and all before it, and the value: a
    last line that was cut short, and whatever follows a line that was changed or lost, is dropped. The file's folder is
    created.
    """

    def __init__(self, path: Path, key: Any) -> None:
        self.path = path
        self.records: list[Any] = []
        self._sum = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        header = self._line(key)
        size = len(header)
        self._file = os.fdopen(open_own(path), "a+b")
        self._file.seek(0)
        if self._file.read(size) == header:
            for line in iter(lambda: self._file.readline(_LONGEST), b""):
                text = line[_BEFORE:-_AFTER]
                if line != _sealed(text, self._sum):
                    break
                self._sum = zlib.crc32(text, self._sum)
                self.records.append(json.loads(text))
                size += len(line)
            self._file.truncate(size)
        else:
            self._file.truncate(0)
            self._file.write(header)
            self._file.flush()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, record: Any) -> None:
        """Append a JSON value and flush it to the file."""
        self.records.append(record)
        self._file.write(self._line(record))
        self._file.flush()

    def _line(self, value: Any) -> bytes:
        text = json.dumps(value).encode()
        line = _sealed(text, self._sum)
        self._sum = zlib.crc32(text, self._sum)
        return line

    def close(self) -> None:
        """Close the file, which stays."""
        self._file.close()


def _sealed(text: bytes, before: int) -> bytes:
    return b'["%08x", %b]\n' % (zlib.crc32(text, before), text)
