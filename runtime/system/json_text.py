"""JSON that anybody may have written: what Python's reader takes silently, and what it chokes on, is refused."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from itertools import accumulate
from typing import Any

from .text import check_text

_MAX_DEPTH = 100  # no file of this field is a tenth as deep; Python's recursion ends at about 1000
_MAX_DIGITS = 300  # float64 ends there
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NO_BRACKETS = bytes(set(range(256)) - _STEP.keys())
_ZEROS = bytes(ord("0") if i in b"0123456789" else ord(" ") for i in range(256))


class StrictJsonError(ValueError):
    """It is JSON, but no program should take it.

    Two keys of an object are the same, it is nested too deeply, a number has too many digits, or a text has half of a
    surrogate pair, which is no character.
    """


def parse_json(data: bytes, constant: Callable[[str], Any] | None = None) -> Any:
    """The value of a JSON document, in the encodings that RFC 4627 names, with or without a byte order mark.

    Args:
        data: the document.
        constant: called with "NaN", "Infinity" or "-Infinity", which are no JSON but which Python writes; None: they
            are floats. Numbers that only seem finite (1e999) are infinite, too: whoever takes a number looks at it.

    Raises:
        StrictJsonError: see there.
        ValueError: it is not JSON.
    """
    text = data.decode(json.detect_encoding(data))
    text = text.removeprefix("\ufeff")
    bare = _STRING.sub('""', text).encode(errors="replace")  # what is outside of the strings
    depth = max(accumulate(map(_STEP.__getitem__, bare.translate(None, _NO_BRACKETS))), default=0)
    if depth > _MAX_DEPTH:
        raise StrictJsonError(f"it is nested {depth} levels deep, expected at most {_MAX_DEPTH}")
    if b"0" * _MAX_DIGITS in bare.translate(_ZEROS):
        at = re.search(rf"[0-9]{{{_MAX_DIGITS}}}", text)
        line = text.count("\n", 0, at.start()) + 1 if at else 1
        raise StrictJsonError(f"a number in line {line} has {_MAX_DIGITS} digits or more")
    value = json.loads(text, object_pairs_hook=_object, parse_constant=constant)
    if _SURROGATE.search(text):
        try:
            check_text(value, file_names=True)
        except ValueError as error:
            raise StrictJsonError(str(error)) from error
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise StrictJsonError(f"an object has the key {twice[:60]!r} twice")
    return found
