"""The journal of a benchmark: the file of --output."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ..runtime.errors import InputError
from ..runtime.system.journal import Journal


def open_journal(path: Path, benchmark: str, **key: Any) -> Journal:
    """The journal of a benchmark with this key; one with another key is started over.

    Raises:
        InputError: the file is something else, which would be overwritten.
    """
    if path.exists() and not path.read_text(errors="replace").startswith('{"benchmark": '):
        raise InputError(f"{path} holds no results of a benchmark: remove it or choose another --output")
    return Journal(path, {"benchmark": benchmark, **key})


def digest(path: str | Path) -> str:
    """Of a file's content, for a key.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
