"""A journal of finished work: a run that was interrupted continues where it stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Journal:
    """JSON values in a file, one per line, each written as soon as it is added; `records` holds them all.

    The first line is a key: a JSON value that says what the records belong to. A file with the same key is continued;
    any other file is started over. A last line that was cut short, and whatever follows a line that is not JSON, is
    dropped. The file's folder is created.
    """

    def __init__(self, path: Path, key: Any) -> None:
        self.path = path
        self.records: list[Any] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        header = _line(key)
        size = len(header)
        lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
        if lines[:1] == [header]:
            for line in lines[1:]:
                if not line.endswith(b"\n"):
                    break
                try:
                    self.records.append(json.loads(line))
                except ValueError:
                    break
                size += len(line)
        else:
            path.write_bytes(header)
        self._file = path.open("r+b")
        self._file.truncate(size)
        self._file.seek(size)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, record: Any) -> None:
        """Append a JSON value and flush it to the file."""
        self.records.append(record)
        self._file.write(_line(record))
        self._file.flush()

    def close(self) -> None:
        """Close the file, which stays."""
        self._file.close()


def _line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"
