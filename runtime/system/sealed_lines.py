"""JSON objects in a file, one a line, each behind the CRC-32 of its text."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

_LONGEST = 16 << 20  # of a line; the zeros that a power cut may leave have no end of line
_BLOCK = 1 << 20


def line_of(record: dict[str, Any]) -> bytes:
    """A line of the file."""
    text = json.dumps(record, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def parse(line: bytes) -> dict[str, Any] | None:
    """The object of a line; None if the line is damaged."""
    head, _, text = line.rstrip(b"\n").partition(b" ")
    if head != b"%08x" % zlib.crc32(text):
        return None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def read_lines(path: Path) -> Iterator[dict[str, Any] | None]:
    """The objects of a file, oldest first; None for a damaged line. Raises OSError: it cannot be read."""
    with path.open("rb") as file:
        for line in iter(lambda: file.readline(_LONGEST), b""):
            yield parse(line)


def crc32(file: IO[bytes]) -> int:
    """The CRC-32 of the bytes of a file, from where it stands."""
    found = 0
    while block := file.read(_BLOCK):
        found = zlib.crc32(block, found)
    return found
