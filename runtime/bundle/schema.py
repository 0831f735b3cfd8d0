"""Checks that a value from a JSON file has the expected shape before anything uses it: anybody may have written it."""

from __future__ import annotations

from dataclasses import MISSING, fields
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

NUMBER = (int, float)
NUMBER_OR_NONE = (int, float, NoneType)
_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", NoneType: "null", dict: "{}"}


def shape_of(record: type) -> dict[str, Any]:
    """The shape, for `check_shape`, of a dataclass as JSON. Fields with a default may be missing."""
    hints = get_type_hints(record)
    optional = {f.name for f in fields(record) if f.default is not MISSING or f.default_factory is not MISSING}
    return {f"{name}?" if name in optional else name: _shape_of(hint) for name, hint in hints.items()}


def _shape_of(hint: Any) -> Any:
    """Of a type hint: a plain type, a tuple (a list in JSON), `dict[str, T]`, or a union of plain types."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is tuple:  # of one type throughout; its length is checked with its values
        return [_shape_of(inner[0])]
    if origin is dict:
        return {"*": _shape_of(inner[1])}
    plain = inner or (hint,)
    return (*plain, int) if float in plain else plain


def check_shape(value: Any, shape: Any, where: str) -> None:
    """Compare a value with a shape, and raise at the first place that differs.

    Args:
        value: what `json.loads` gave; tuples pass as lists.
        shape: a type or a tuple of types; `[shape]` for a list of any length; `{name: shape}` for an object, where a
            name that ends in "?" may be missing and the name "*" stands for any other.
        where: what to call the value in the message.

    Raises:
        ValueError: with the place, what is there and what was expected. Numbers must be finite and fit a float64;
            true is not 1.
    """
    if isinstance(shape, dict):
        if type(value) is not dict:
            raise ValueError(f"{where} is {_show(value)}, expected an object")
        inner = {name.rstrip("?"): (part, name.endswith("?")) for name, part in shape.items() if name != "*"}
        missing = [name for name, (_, optional) in inner.items() if name not in value and not optional]
        unknown = [] if "*" in shape else sorted(value.keys() - inner.keys())
        if missing or unknown:
            raise ValueError(f"{where} lacks {missing} and has unknown {unknown}")
        for name, item in value.items():
            check_shape(item, inner[name][0] if name in inner else shape["*"], f"{where}.{name}")
    elif isinstance(shape, list):
        if not isinstance(value, list | tuple):
            raise ValueError(f"{where} is {_show(value)}, expected a list")
        for index, item in enumerate(value):
            check_shape(item, shape[0], f"{where}[{index}]")
    elif shape is not object:
        types = shape if isinstance(shape, tuple) else (shape,)
        if type(value) not in types or (type(value) in NUMBER and not abs(value) <= 1e300):
            expected = " or ".join(_NAMES[t] for t in types if t is not int or float not in types)
            raise ValueError(f"{where} is {_show(value)}, expected {expected}")


def _show(value: Any) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**30 else "a huge number"
    return text if len(text) < 60 else f"{text[:57]}..."
