"""Ways to damage bytes and JSON values. Each says what it did."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

Rng = np.random.Generator
T = TypeVar("T")

NUMBERS: tuple[Any, ...] = (
    *(0, 1, -1, 2, 3, 17, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64),
    *(-(2**31), -(2**63), 10**18, 10**30, 10**299, 0.5, -0.0, 1e-30, 1e-320, 1e9, 1e10, 2e38, 1e39, 1e300, 1.8e308),
    *(float("nan"), float("inf"), float("-inf")),
)
TEXTS = (
    *("", " ", "\0", "a\0b", "..", "../../etc/passwd", "/etc/passwd", "/dev/zero", "/proc/self/mem", ".", "~", "$HOME"),
    *("C:\\x", "\\\\host\\share", "x" * 300, "x" * 70000, "a/b", "a\nb", "\u202e", "\ud800", "é\u0301", "日本", "%s%n"),
    *(
        "{0}",
        "nan",
        "NaN",
        "inf",
        "1e999",
        "true",
        "null",
        "-",
        "--help",
        "-1",
        "[red]",
        "<script>",
        "file.png\n",
        "💥",
    ),
)
KEYS = (*TEXTS[:8], "__class__", "__proto__", "id", "name", "file", "bbox", "score", "keypoints", "images", "x1")


def pick(rng: Rng, choices: Sequence[T]) -> T:
    """One of them."""
    return choices[int(rng.integers(len(choices)))]


def some_value(rng: Rng, depth: int = 0) -> Any:
    """A JSON value of any kind."""
    kind = int(rng.integers(8 if depth < 3 else 5))
    if kind <= 1:
        return pick(rng, NUMBERS)
    if kind == 2:
        return pick(rng, TEXTS)
    if kind == 3:
        return pick(rng, (None, True, False))
    if kind == 4:
        return pick(rng, ([], {}, [[]], [{}], {"": None}, [None], [0] * 5000))
    if kind == 5:
        return [some_value(rng, depth + 1) for _ in range(int(rng.integers(6)))]
    if kind == 6:
        return {pick(rng, KEYS): some_value(rng, depth + 1) for _ in range(int(rng.integers(4)))}
    return float(rng.normal() * 10.0 ** rng.integers(-5, 12))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in a JSON value, its own included."""
    found = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


def change_json(rng: Rng, value: Any, done: list[str], times: int | None = None) -> Any:
    """A copy in which a few values, keys or elements are other ones."""
    changed = copy.deepcopy(value)
    for _ in range(times or int(rng.choice([1, 1, 1, 2, 3, 6]))):
        *above, last = pick(rng, places(changed)[1:] or [()]) or (None,)
        if last is None:
            return some_value(rng)
        owner = changed
        for key in above:
            owner = owner[key]
        way = str(rng.choice(["replace", "near", "near", "remove", "double", "rename", "add", "swap", "wrap"]))
        done.append(f"{way} {'.'.join(map(str, (*above, last)))[:120]}")
        _WAYS[way](rng, owner, last)
    return changed


def _replace(rng: Rng, owner: Any, key: Any) -> None:
    owner[key] = some_value(rng)


def _near(rng: Rng, owner: Any, key: Any) -> None:
    """A value of the same type, mostly."""
    old = owner[key]
    if isinstance(old, bool) or old is None:
        owner[key] = pick(rng, (True, False, None, 0, 1, "true"))
    elif isinstance(old, int):
        owner[key] = pick(rng, (old + 1, old - 1, -old, old * 2, float(old), str(old), 0, *NUMBERS[:26]))
    elif isinstance(old, float):
        owner[key] = pick(rng, (-old, old * 1e6, old / 1e6, int(np.nan_to_num(old)), str(old), 0.0, *NUMBERS[20:]))
    elif isinstance(old, str):
        owner[key] = pick(rng, (old + "x", old[:-1], old.upper(), f"../{old}", f"/{old}", f"{old}\0", *TEXTS))
    elif isinstance(old, list):
        owner[key] = pick(
            rng, (old * 2, old[:-1], old[::-1], [*old, *old[:1]], [old], {str(i): v for i, v in enumerate(old)})
        )
    else:
        owner[key] = pick(rng, ([old], list(old.values()), list(old), {}, {**old, "x": 1}))


def _remove(rng: Rng, owner: Any, key: Any) -> None:
    del owner[key]


def _double(rng: Rng, owner: Any, key: Any) -> None:
    if isinstance(owner, list):
        owner.insert(int(rng.integers(len(owner) + 1)), copy.deepcopy(owner[key]))
    else:
        owner[f"{key}{pick(rng, ('', ' ', '2', chr(0)))}"] = copy.deepcopy(owner[key])


def _rename(rng: Rng, owner: Any, key: Any) -> None:
    if isinstance(owner, dict):
        owner[pick(rng, (*KEYS, str(key).upper(), f"{key}s"))] = owner.pop(key)
    else:
        owner[key] = some_value(rng)


def _add(rng: Rng, owner: Any, key: Any) -> None:
    if isinstance(owner, dict):
        owner[pick(rng, KEYS)] = some_value(rng)
    else:
        owner.insert(key, some_value(rng))


def _swap(rng: Rng, owner: Any, key: Any) -> None:
    other = pick(rng, list(owner)) if isinstance(owner, dict) else int(rng.integers(len(owner)))
    owner[key], owner[other] = owner[other], owner[key]


def _wrap(rng: Rng, owner: Any, key: Any) -> None:
    for _ in range(int(rng.choice([1, 2, 50, 98]))):
        owner[key] = [owner[key]] if rng.random() < 0.5 else {"x": owner[key]}


_WAYS: dict[str, Callable[[Rng, Any, Any], None]] = {
    "replace": _replace,
    "near": _near,
    "remove": _remove,
    "double": _double,
    "rename": _rename,
    "add": _add,
    "swap": _swap,
    "wrap": _wrap,
}


def json_text(rng: Rng, value: Any, done: list[str]) -> bytes:
    """A JSON value as text, sometimes written as no careful program would."""
    text = json.dumps(value, indent=pick(rng, (None, 1)), ensure_ascii=bool(rng.random() < 0.8))
    way = str(
        rng.choice(["plain"] * 6 + ["bom", "utf-16", "double key", "digits", "deep", "cut", "tail", "comment", "flip"])
    )
    if way != "plain":
        done.append(f"text: {way}")
    brace, number = text.find("{"), next((i for i, c in enumerate(text) if c.isdigit()), 0)
    if way == "double key" and brace >= 0 and (colon := text.find(":", brace)) > 0:
        text = f"{text[: brace + 1]}{text[brace + 1 : colon]}: {pick(rng, ('1', '[]', 'null'))}, {text[brace + 1 :]}"
    elif way == "digits":
        text = f"{text[:number]}{'9' * int(rng.choice([299, 301, 5000]))}{text[number:]}"
    elif way == "deep":
        levels = int(rng.choice([60, 99, 101, 5000, 200000]))
        text = f'{{"x": {"[" * levels}{"]" * levels}, {text[1:]}' if text.startswith("{") else "[" * levels + text
    elif way == "cut":
        text = text[: int(rng.integers(len(text) + 1))]
    elif way == "tail":
        text += pick(rng, ("}", ",", text, "\0", " \n\n", "//"))
    elif way == "comment":
        text = f"// comment\n{text}"
    data = text.encode("utf-8", "surrogatepass")
    if way == "bom":
        return b"\xef\xbb\xbf" + data
    if way == "utf-16":
        return text.encode(pick(rng, ("utf-16", "utf-16-le", "utf-32", "cp1252")), "replace")
    return change_bytes(rng, data, done) if way == "flip" else data


def change_bytes(rng: Rng, data: bytes, done: list[str], start: int = 0, end: int | None = None) -> bytes:
    """Bytes that are damaged between two places, in one of many ways."""
    out = bytearray(data)
    end = len(data) if end is None else end
    way = str(rng.choice(["flip", "flip", "set", "set", "cut", "zero", "insert", "remove", "swap", "repeat", "number"]))
    at = int(rng.integers(start, max(end, start + 1)))
    size = int(min(2 ** rng.integers(0, 13), max(end - at, 1)))
    done.append(f"{way} at {at} of {len(data)}, {size} bytes")
    if way == "flip":
        for place in rng.integers(start, max(end, start + 1), size=int(rng.choice([1, 1, 2, 8, 64]))):
            if place < len(out):
                out[place] ^= 1 << int(rng.integers(8))
    elif way == "set":
        out[at : at + 1] = bytes([int(rng.choice([0, 1, 0x7F, 0x80, 0xFF, int(rng.integers(256))]))])
    elif way == "cut":
        del out[at:]
    elif way == "zero":
        out[at : at + size] = bytes(size)
    elif way == "insert":
        out[at:at] = rng.bytes(size)
    elif way == "remove":
        del out[at : at + size]
    elif way == "swap":
        other = int(rng.integers(start, max(end, start + 1)))
        out[at : at + size], out[other : other + size] = out[other : other + size], out[at : at + size]
    elif way == "repeat":
        out[at:at] = out[at : at + size] * int(rng.choice([1, 2, 30]))
    else:
        width = int(rng.choice([2, 4, 8]))
        value = int(rng.choice(np.array([0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1], np.uint64)))
        out[at : at + width] = (value % 2 ** (8 * width)).to_bytes(width, pick(rng, ("little", "big")))
    return bytes(out)
