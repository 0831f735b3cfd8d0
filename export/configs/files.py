"""Read files that anybody may have written: regular ones, of a limited size."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ...runtime.errors import ConfigError

MAX_TEXT = 1 << 20


def is_regular(path: Path) -> bool:
    """Whether a file is there and is one with contents: no folder, device or pipe."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):  # ValueError: a null byte in the name
        return False


def is_other(path: Path) -> bool:
    """Whether there is something else than a regular file."""
    try:
        return path.exists() and not is_regular(path)
    except (OSError, ValueError):  # also a name that no file can have
        return False


def read_bytes(path: Path, limit: int = MAX_TEXT) -> bytes:
    """The contents of a regular file of at most `limit` bytes.

    Raises:
        ConfigError: it is missing, no regular file, or larger.
    """
    try:
        # Without O_NONBLOCK, opening a pipe waits for somebody to write into it.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(f"{path}:1: a device, pipe or folder, expected a file")
            data = file.read(limit + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{str(path)!r:.200} cannot be read: {reason}") from error
    if len(data) > limit:
        raise ConfigError(f"{path}:1: larger than {limit} bytes, which no file of this kind is")
    return data


def decode(data: bytes, label: str) -> str:
    """Bytes as text.

    Raises:
        ConfigError: they are no text; the message names the line.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{label}:{line}: not text in UTF-8 (byte {error.start})") from error
    if "\0" in text:
        raise ConfigError(f"{label}:{text.count(chr(10), 0, text.index(chr(0))) + 1}: a null byte, so this is no text")
    return text
