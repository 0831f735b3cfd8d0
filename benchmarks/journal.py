"""Finished results of a run, one JSON object per line, so that an interrupted run resumes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..runtime.errors import InputError
from ..runtime.system.files import atomic_write

Record = dict[str, Any]


class Journal:
    """A file of records.

    The first line is {"key": ...}: what the records belong to. A journal with another key is started over by the first
    `append`. A last line that a kill cut off is ignored.

    Args:
        path: the file; it need not exist.
        key: JSON values.

    Attributes:
        key: as given, after JSON.
        records: all of them, oldest first.

    Raises:
        InputError: the file is not a journal.
    """

    def __init__(self, path: Path, key: Mapping[str, Any]) -> None:
        self._path, self.key = path, json.loads(json.dumps(key))
        lines = path.read_text().splitlines() if path.exists() else []
        if lines and "key" not in (_parsed(lines[0]) or {}):
            raise InputError(f"{path} holds no results of this kind: remove it or choose another --output")
        self._started = bool(lines) and _parsed(lines[0]) == {"key": self.key}
        self.records = [record for line in lines[1:] if (record := _parsed(line)) is not None] if self._started else []

    def append(self, record: Record) -> None:
        """Add a record; it is on disk when this returns."""
        if not self._started:
            with atomic_write(self._path) as file:
                file.write(json.dumps({"key": self.key}).encode())
            self._started = True
        with self._path.open("a") as text:
            text.write("\n" + json.dumps(record))  # a line of its own also after one that was cut off
        self.records.append(record)


def _parsed(line: str) -> Record | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def digest(path: str | Path) -> str:
    """Of a file's content, for a key."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
