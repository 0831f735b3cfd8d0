"""Text that no file can be written with: halves of surrogate pairs.

JSON can hold them, and Python stands for the bytes of a file name that is not UTF-8 by some of them, U+DC80 to U+DCFF.
"""

from __future__ import annotations

import json
import os
from typing import Any


def check_text(value: Any, file_names: bool = False) -> None:
    """Raise ValueError if a text in a JSON value cannot be written; with `file_names`, names of files may be in it.

    `value` is what `json.loads` gave; tuples pass as lists.
    """
    try:
        json.dumps(value, ensure_ascii=False).encode(errors="surrogateescape" if file_names else "strict")
    except UnicodeEncodeError as error:
        around = error.object[max(0, error.start - 20) : error.end + 20]
        raise ValueError(f"{around!r} holds U+{ord(error.object[error.start]):04X}, which is no character") from error


def opencv_name(path: str | os.PathLike[str]) -> Any:
    """A file's name for OpenCV, as bytes: a text with such characters ends the process with a segmentation fault."""
    return os.fsencode(path)


def writable(text: str) -> str:
    r"""The text with such characters as escapes: `a\udcff.png` of the file name `b"a\xff.png"`."""
    return text.encode(errors="backslashreplace").decode()
