"""Files that anybody may have written, within bounds: what is too large or no text is refused before it is read."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import BinaryIO

MAX_TEXT = 2 << 30
"""Bytes of a text file; the largest annotations that are known have half of it. As Python's values they take several
times as much memory."""
_MAX_WIDE = 256 << 20  # of one in UTF-16 or UTF-32, in which zeros are no sign that it is no text
_BLOCK = 1 << 20


def read_file(path: str | os.PathLike[str], most: int) -> bytes:
    """The bytes of a file or a pipe. Raises OSError: it cannot be read, or has more than `most`."""
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode):
            if status.st_size > most:
                raise _too_large(path, most)
            return file.read()
        data = bytearray()
        while block := file.read(_BLOCK):
            data += block
            if len(data) > most:
                raise _too_large(path, most)
        return bytes(data)


def read_text_file(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a text file or a pipe. Raises OSError: as `check_text_file`."""
    if Path(path).is_file():
        check_text_file(path)
    return read_file(path, MAX_TEXT)


def check_text_file(path: str | os.PathLike[str]) -> None:
    """Look through a text file, a block at a time.

    Raises OSError: it cannot be read, is larger than 2 GiB, or holds a zero byte: a file with holes has terabytes of
    them, and no memory is enough for those.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(4)
        wide = json.detect_encoding(head).startswith(("utf-16", "utf-32"))
        most = _MAX_WIDE if wide else MAX_TEXT
        if size > most:
            raise _too_large(path, most)
        if not wide and (at := _find_zero(file)) is not None:
            raise OSError(errno.EILSEQ, f"byte {at} is 0, and the file no text", os.fspath(path))


def _find_zero(file: BinaryIO) -> int | None:
    start = file.seek(0)
    while block := file.read(_BLOCK):
        if (at := block.find(b"\0")) >= 0:
            return start + at
        start += len(block)
    return None


def _too_large(path: str | os.PathLike[str], most: int) -> OSError:
    return OSError(errno.EFBIG, f"larger than {most >> 20} MiB", os.fspath(path))
