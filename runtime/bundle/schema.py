"""Is a value from a JSON file built as expected? Asked before anything uses it: anybody may have written the file."""

from __future__ import annotations

from typing import Any

NUMBER = (int, float)
NUMBER_OR_NONE = (int, float, type(None))
_NAMES = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
    dict: "{}",
}


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
