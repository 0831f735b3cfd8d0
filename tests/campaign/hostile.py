"""Pieces that several parts put into files: code in pickles, and headers of arrays that lie."""

from __future__ import annotations

import ast
import os
import struct
from collections.abc import Callable
from typing import Any

from posert.tests.campaign.mutate import Rng, pick

_DESCRIPTIONS = (
    *(
        "<f4",
        "|u1",
        "<f8",
        "|O",
        "<U9999999",
        "|S2147483647",
        "<f16",
        ">f4",
        "<i8",
        "|V1000000000",
        "<M8[s]",
        "|b1",
        "",
    ),
    *([("a", "<f4")], [("a", "|O")], "f4,f4", "(1000000,1000000)f4", "|u1x"),
)
_SHAPES: tuple[Any, ...] = (
    *((), (0,), (1 << 40,), (1 << 62, 4), (-1,), (2, -3), (2**31, 2**31, 4), (0, 1 << 62), (1,) * 33, (1,) * 65),
    *((True,), (2.0, 3), "x", None, (1 << 31, 0), (10**25,), (17,), (2, 17, 16, 12), (300_000_000,)),
)


class Marker:
    """An object whose pickle runs a command when it is loaded, which the watch sees."""

    def __init__(
        self, call: Callable[..., Any] = os.system, arguments: tuple[Any, ...] = ("echo hello > pwned",)
    ) -> None:
        self._reduced = call, arguments

    def __reduce__(self) -> Any:
        return self._reduced


def npy(rng: Rng, data: bytes, done: list[str]) -> bytes:
    """An .npy file with another header."""
    size = struct.unpack("<H", data[8:10])[0]
    header = ast.literal_eval(data[10 : 10 + size].decode("latin1"))
    way = str(rng.choice(["shape", "shape", "descr", "fortran", "version", "text", "long"]))
    if way == "shape":
        header["shape"] = pick(rng, _SHAPES)
    elif way == "descr":
        header["descr"] = pick(rng, _DESCRIPTIONS)
    elif way == "fortran":
        header["fortran_order"] = pick(rng, (True, 1, "x", None))
    text = (
        repr(header)
        if way != "text"
        else pick(rng, ("__import__('os')", "{" * 5000, "(" * 200 + ")" * 200, "[]", "{}", "\0"))
    )
    done.append(f"header: {way} {text[:80]}")
    if way == "long":
        text += " " * 60000
    version = bytes(pick(rng, ((1, 0), (2, 0), (3, 0), (9, 9)))) if way == "version" else b"\1\0"
    body = text.encode("latin1") + b"\n"
    length = struct.pack("<H" if version[0] == 1 else "<I", min(len(body), 65535))
    return b"\x93NUMPY" + version + length + body + data[10 + size :]


def safetensors(header: bytes, data: bytes, size: int | None = None) -> bytes:
    """A safetensors file of a header and data; `size` is what it says of the header's length."""
    return struct.pack("<Q", len(header) if size is None else size) + header + data
