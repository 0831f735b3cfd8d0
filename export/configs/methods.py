"""The builtin functions and methods that configs call, each priced before it runs.

Left out are those that make large values from small ones (`format`, `join`, `replace`, ...).
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any, Protocol

from .values import STEP, Budget, Symbol, Unknown, is_scalar, key

_MAX_RANGE = 100_000
MAX_COMPARED = 1000
"""Characters of a text that is compared with many others."""


class Reader(Protocol):
    """What the functions need of the evaluation that calls them."""

    budget: Budget

    def where(self, node: ast.AST) -> str:
        """File and line of a node."""


def items(reader: Reader, node: ast.AST, value: Any) -> Any:
    """What a loop over a value gives. A list is given itself: a loop sees what is appended to it.

    Raises:
        TypeError: nothing can loop over it.
    """
    if isinstance(value, Symbol) or not isinstance(value, str | list | tuple | dict | set | range):
        raise TypeError(f"a loop over a {type(value).__name__}")
    if not isinstance(value, range):
        reader.budget.spend(len(value), reader.where(node))
    elif len(value) > _MAX_RANGE:
        reader.budget.spend(STEP * len(value), reader.where(node))
    return list(value) if isinstance(value, dict | set) else value


def _dict(reader: Reader, node: ast.AST, *args: Any, **named: Any) -> dict[Any, Any]:
    out: dict[Any, Any] = {}
    if args:
        (first,) = args
        if isinstance(first, Unknown):
            raise TypeError(first.why)
        pairs = first.items() if isinstance(first, dict) else items(reader, node, first)
        reader.budget.spend(STEP * len(pairs), reader.where(node))
        out.update((key(at), value) for at, value in pairs)
    return {**out, **named}


def _listed(kind: Callable[[Any], Any]) -> Callable[..., Any]:
    def make(reader: Reader, node: ast.AST, value: Any = ()) -> Any:
        looped = items(reader, node, value)
        reader.budget.spend(len(looped), reader.where(node))
        return kind(map(key, looped) if kind is set else looped)

    return make


def _scalars(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of numbers or texts, or of a list of these."""

    def call(reader: Reader, node: ast.AST, *args: Any) -> Any:
        values = items(reader, node, args[0]) if len(args) == 1 and not is_scalar(args[0]) else args
        if not all(map(is_scalar, values)):  # comparing nested lists may take exponential time
            raise TypeError("nested values")
        if any(isinstance(value, str) and len(value) > MAX_COMPARED for value in values):
            raise ValueError("a long text")
        reader.budget.spend(STEP * len(values), reader.where(node))
        return function(values) if values is not args or len(args) > 1 else function(*args)

    return call


def _one(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(reader: Reader, node: ast.AST, *args: Any) -> Any:
        if not all(map(is_scalar, args)):
            raise TypeError("nested values")
        if any(isinstance(arg, str) and len(arg) > MAX_COMPARED for arg in args):
            raise ValueError("a long text")
        if len(args) > 1 and not -20 <= args[1] <= 20:  # of round: it takes a power of ten
            raise ValueError("too many digits")
        return function(*args)

    return call


def _len(reader: Reader, node: ast.AST, value: Any) -> int:
    return len(items(reader, node, value))


def _range(reader: Reader, node: ast.AST, *args: int) -> range:
    return range(*args)


def _enumerate(reader: Reader, node: ast.AST, value: Any, start: int = 0) -> list[Any]:
    looped = items(reader, node, value)
    reader.budget.spend(STEP * len(looped), reader.where(node))
    return list(enumerate(looped, start))


def _zip(reader: Reader, node: ast.AST, *values: Any) -> list[Any]:
    looped = [items(reader, node, value) for value in values]
    reader.budget.spend(STEP * sum(map(len, looped)), reader.where(node))
    return list(zip(*looped, strict=False))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "dict": _dict,
    "list": _listed(list),
    "tuple": _listed(tuple),
    "set": _listed(set),
    "reversed": _listed(lambda looped: list(reversed(looped))),
    "range": _range,
    "len": _len,
    "enumerate": _enumerate,
    "zip": _zip,
    "sum": _scalars(sum),
    "max": _scalars(max),
    "min": _scalars(min),
    "sorted": _scalars(sorted),
    "abs": _one(abs),
    "round": _one(round),
    "int": _one(int),
    "float": _one(float),
    "bool": _one(bool),
    "str": _one(str),
    "print": lambda reader, node, *args, **named: None,
}


def _extend(reader: Reader, node: ast.AST, holder: list[Any], more: Any) -> None:
    holder.extend(list(items(reader, node, more)))


def _update(reader: Reader, node: ast.AST, holder: dict[Any, Any], *args: Any, **named: Any) -> None:
    holder.update(_dict(reader, node, *args, **named))


def _priced(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method that looks at each part of its holder at most once."""

    def call(reader: Reader, node: ast.AST, holder: Any, *args: Any) -> Any:
        reader.budget.spend(STEP * (1 + len(holder)), reader.where(node))
        return method(holder, *args)

    return call


def _constant(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method whose time does not depend on its holder's length."""

    def call(reader: Reader, node: ast.AST, holder: Any, *args: Any) -> Any:
        reader.budget.spend(STEP, reader.where(node))
        return method(holder, *args)

    return call


METHODS: dict[tuple[type, str], Callable[..., Any]] = {
    (list, "append"): _constant(list.append),
    (list, "extend"): _extend,
    (list, "insert"): _priced(list.insert),
    (list, "pop"): _priced(list.pop),
    (list, "reverse"): _priced(list.reverse),
    (list, "clear"): _constant(list.clear),
    (list, "copy"): _priced(list.copy),
    (dict, "update"): _update,
    (dict, "copy"): _priced(dict.copy),
    (dict, "get"): _constant(lambda holder, at, other=None: holder.get(key(at), other)),
    (dict, "pop"): _constant(lambda holder, at, *other: holder.pop(key(at), *other)),
    (dict, "setdefault"): _constant(lambda holder, at, other=None: holder.setdefault(key(at), other)),
    (dict, "keys"): _priced(lambda holder: list(holder)),
    (dict, "values"): _priced(lambda holder: list(holder.values())),
    (dict, "items"): _priced(lambda holder: list(holder.items())),
    **{
        (str, name): _priced(getattr(str, name))
        for name in ("split", "lower", "upper", "strip", "lstrip", "rstrip", "startswith", "endswith")
    },
}
