"""What the evaluation of a config works with: values that cannot be had, imported names, and a budget."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ...runtime.errors import ConfigError

STEP = 10
"""Price of one step of an evaluation, where a cell of a list or a letter of a text costs 1."""


class Unknown:
    """A value that cannot be had without running code. Only whoever needs it complains.

    Attributes:
        why: the file, the line and the reason.
    """

    __slots__ = ("why",)

    def __init__(self, why: str) -> None:
        self.why = why

    def __repr__(self) -> str:
        return f"Unknown({self.why!r})"


class Missing(Exception):
    """Part of an expression cannot be had, so the expression cannot either."""

    def __init__(self, unknown: Unknown) -> None:
        super().__init__(unknown.why)
        self.unknown = unknown


class Symbol(str):
    """The name of something imported: `type=HeatmapHead` is read as "HeatmapHead"."""

    __slots__ = ()


@dataclass
class Budget:
    """What reading one config may cost, its bases included. A legitimate one needs less than a tenth of it.

    Attributes:
        units: see `STEP`; bounds the time and the memory.
        bytes, tokens, files: of all files together.
    """

    units: int = 3_000_000
    bytes: int = 2 << 20
    tokens: int = 100_000
    files: int = 60
    spoiled: dict[int, tuple[Any, Unknown]] = field(default_factory=dict)

    def spend(self, units: int, where: str) -> None:
        """Take units from the budget.

        Raises:
            ConfigError: it is used up.
        """
        self.units -= units
        if self.units < 0:
            raise ConfigError(
                f"{where}: this config computes too much or too large values; posert reads configs as data: give the "
                "resolved one that a training writes to its work_dirs"
            )

    def spoil(self, value: Any, unknown: Unknown, where: str) -> None:
        """Mark lists and dicts, and those in them, as changed by code that was not run."""
        left = [value]
        while left:
            item = left.pop()
            self.spend(STEP, where)
            if isinstance(item, list | dict | tuple | set) and id(item) not in self.spoiled:
                self.spoiled[id(item)] = item, unknown  # held, so that no other object takes its id
                left += item.values() if isinstance(item, dict) else item


def is_scalar(value: Any) -> bool:
    """Whether a value has no parts. Comparing it takes no time, but for a long text."""
    return value is None or (isinstance(value, str | int | float) and not isinstance(value, Symbol))


def key(value: Any) -> Any:
    """A value that may be a key of a dict.

    Raises:
        TypeError: it may not.
    """
    if is_scalar(value) or isinstance(value, Symbol):
        return value
    if isinstance(value, tuple) and len(value) <= 100 and all(map(is_scalar, value)):
        return value
    raise TypeError(f"a {type(value).__name__} as a key")


def first_unknown(values: Iterable[Any]) -> Unknown | None:
    """The first value of several that cannot be had."""
    return next((value for value in values if isinstance(value, Unknown)), None)


def short(error: BaseException) -> str:
    """An exception in a few words."""
    text = str(error).splitlines()
    return f"{type(error).__name__}: {text[0][:80]}" if text else type(error).__name__
