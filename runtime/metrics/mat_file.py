"""Arrays of numbers in a MATLAB file of version 5, as MATLAB (`save -v6`, `-v7`) and scipy write it.

scipy reads damaged files past the end of its memory, which ends the process; so this reader checks every length.
(The MathWorks, MAT-File Format, 2019: https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf)
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_CLASSES = range(6, 16)  # double, single, and integers of 8 to 64 bits
_COMPLEX = 0x0800
_KINDS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}


def read_mat(data: bytes, most: int) -> dict[str, NDArray[np.float64]]:
    """The real arrays of numbers of a file by name; others, such as cells and text, are passed over.

    Args:
        data: the file.
        most: bytes that its arrays may have in all.

    Raises:
        ValueError: the file is of another format or damaged, or its arrays are larger than `most`.
    """
    order = {b"IM": "<", b"MI": ">"}.get(data[126:_HEADER])
    if order is None or data[125 if order == "<" else 124 : 126][:1] != b"\1":
        raise ValueError("it is no MATLAB file of version 5; save it with -v7")
    found: dict[str, NDArray[np.float64]] = {}
    left = most
    for kind, body in _elements(memoryview(data)[_HEADER:], order):
        if kind == _COMPRESSED:
            try:
                whole = zlib.decompressobj().decompress(body, left + 1)
            except zlib.error as error:
                raise ValueError(f"a variable cannot be decompressed: {error}") from error
            left -= len(whole)
            kind, body = next(_elements(memoryview(whole), order), (0, memoryview(b""))) if left >= 0 else (0, body)
        else:
            left -= len(body)
        if left < 0:
            raise ValueError(f"its arrays have more than {most} bytes")
        if kind == _MATRIX:
            found.update(_matrix(body, order))
    return found


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Type and content of each element."""
    at = 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        if kind >> 16:  # up to four bytes lie in the tag itself
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
            end = at + 8
        else:
            start = at + 8
            end = start + size + (-size % 8 if kind != _COMPRESSED else 0)
        if start + size > len(data) or (start == at + 4 and size > 4):
            raise ValueError("it is cut short, or damaged: an element reaches beyond what holds it")
        yield kind, data[start : start + size]
        at = end


def _matrix(body: memoryview, order: str) -> dict[str, NDArray[np.float64]]:
    """A variable by its name, if it is an array of numbers."""
    parts = _elements(body, order)
    flags, sizes, name = (next(parts, (0, memoryview(b"")))[1] for _ in range(3))
    word = struct.unpack_from(f"{order}I", flags)[0] if len(flags) >= 4 else 0
    if word & 0xFF not in _CLASSES or word & _COMPLEX:
        return {}
    kind, values = next(parts, (0, memoryview(b"")))
    shape = np.frombuffer(sizes, f"{order}i4") if len(sizes) % 4 == 0 else np.array([-1])
    if kind not in _KINDS or not 2 <= len(shape) <= 32 or (shape < 0).any():
        raise ValueError("a variable is damaged: it has no type or no shape of an array")
    array = np.frombuffer(values, order + _KINDS[kind], count=len(values) // int(_KINDS[kind][1]))
    if math.prod(shape.tolist()) != array.size:
        raise ValueError(f"a variable is damaged: {array.size} values for the shape {tuple(shape.tolist())}")
    label = bytes(name).decode("latin-1")
    return {label: array.astype(np.float64).reshape(shape.tolist(), order="F")}
