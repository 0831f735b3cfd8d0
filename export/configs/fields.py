"""Typed access to what a file says, by paths that messages name: `model.head.decoder.input_size`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...runtime.errors import ConfigError
from .values import Unknown


def plain(value: Any) -> Any:
    """A value for JSON: what cannot be had becomes `{"not read": why}`, keys become texts."""
    if isinstance(value, Unknown):
        return {"not read": value.why}
    if isinstance(value, Mapping):
        return {str(at): plain(v) for at, v in value.items()}
    if isinstance(value, list | tuple | set | range):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)[:200]


@dataclass(frozen=True)
class Field:
    """A value in a file; reading one of the wrong kind raises ConfigError with its path.

    Attributes:
        value: what is there; None and absent are the same.
        path: its place in the file.
        label: the file.
        lines: file and line of each variable, where the value is a config.
    """

    value: Any
    path: str
    label: str
    lines: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, key: str | int) -> Field:
        """A field of this mapping or list, whether it is there or not."""
        path = f"{self.path}[{key}]" if isinstance(key, int) else f"{self.path}.{key}".lstrip(".")
        value, label = self.value, self.lines.get(str(key), self.label)
        if isinstance(value, Unknown):
            return Field(value, path, label)
        if isinstance(value, Mapping):
            return Field(value.get(key), path, label)
        if isinstance(value, list | tuple) and isinstance(key, int) and -len(value) <= key < len(value):
            return Field(value[key], path, label)
        if value is None:
            return Field(None, path, label)
        raise self.error("a mapping" if isinstance(key, str) else f"a list with an element {key}")

    def __bool__(self) -> bool:
        """Whether the file states it."""
        return self.value is not None

    def error(self, expected: str) -> ConfigError:
        """An error that says what is here and what was expected."""
        if isinstance(self.value, Unknown):
            return ConfigError(f"{self.label}: {self.path} is needed and cannot be read: {self.value.why}")
        if self.value is None:
            return ConfigError(f"{self.label}: {self.path} is missing; expected {expected}")
        return ConfigError(f"{self.label}: {self.path} is {_show(self.value)}; expected {expected}")

    def mapping(self) -> Mapping[Any, Any]:
        """As a mapping."""
        if not isinstance(self.value, Mapping):
            raise self.error("a mapping")
        return self.value

    def items(self) -> list[Field]:
        """The elements of a list; of a mapping, or of nothing, none."""
        if isinstance(self.value, Unknown):
            raise self.error("a list")
        if not isinstance(self.value, list | tuple):
            return []
        return [self[i] for i in range(len(self.value))]

    def text(self, default: str | None = None) -> str:
        """As a text."""
        value = default if self.value is None else self.value
        if not isinstance(value, str):
            raise self.error("a text")
        return str(value)

    def type(self) -> str:
        """The class name in `type`, without the package before it."""
        return self["type"].text("").rpartition(".")[2]

    def flag(self, default: bool) -> bool:
        """As true or false."""
        value = default if self.value is None else self.value
        if not isinstance(value, bool | int) or value not in (0, 1):
            raise self.error("True or False")
        return bool(value)

    def number(self, default: float | None = None) -> float:
        """As a finite number."""
        value = default if self.value is None else self.value
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
            raise self.error("a number")
        return float(value)

    def whole(self, default: int | None = None) -> int:
        """As a whole number."""
        value = self.number(default)
        if value != int(value):
            raise self.error("a whole number")
        return int(value)

    def size(self) -> tuple[int, int]:
        """As a width and a height."""
        found = self.items()
        if len(found) != 2:
            raise self.error("a width and a height")
        width, height = (part.whole() for part in found)
        if not (0 < width <= 4096 and 0 < height <= 4096):
            raise self.error("a width and a height from 1 to 4096")
        return width, height

    def triple(self) -> tuple[float, float, float]:
        """As three numbers, or one that stands for all three."""
        found = [part.number() for part in self.items()]
        if len(found) not in (1, 3):
            raise self.error("three numbers")
        first, second, third = found * (3 if len(found) == 1 else 1)
        return first, second, third


def _show(value: Any) -> str:
    if isinstance(value, Mapping | list | tuple | set):
        return f"a {type(value).__name__} of {len(value)}" if len(value) > 4 else repr(plain(value))[:120]
    return repr(value)[:80] if not isinstance(value, int) or abs(value) < 10**18 else "a huge number"
