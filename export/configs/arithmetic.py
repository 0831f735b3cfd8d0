"""The operators of a config's expressions, each priced before it is applied."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from ...runtime.errors import ConfigError
from .methods import MAX_COMPARED, Reader
from .values import Missing, Symbol, Unknown, first_unknown, is_scalar

MAX_INT = 2**63
_MAX_EXPONENT = 64
_ARITHMETIC: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_COMPARISON: dict[type, Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
_UNARY: dict[type, Callable[[Any], Any]] = {ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_}


def binary(reader: Reader, node: ast.AST, kind: type, a: Any, b: Any) -> Any:
    """`a + b` and the like.

    Raises:
        ConfigError: the result is too large.
        TypeError, ArithmeticError: as Python's operators; texts are not formatted.
    """
    where = reader.where(node)
    for x in (a, b):
        if isinstance(x, Unknown):
            return x
        if isinstance(x, Symbol):
            return Unknown(f"{where}: {x} is imported, which is not read")
    numbers = [isinstance(x, int | float) for x in (a, b)]
    if all(numbers):
        if kind is ast.Pow and abs(b) > _MAX_EXPONENT:
            raise ConfigError(f"{where}: too large a power")
        result = _ARITHMETIC[kind](a, b)
        return result if isinstance(result, int | float) else Unknown(f"{where}: a complex number")
    if kind is ast.Add and not any(numbers):
        reader.budget.spend(len(a) + len(b), where)
    elif kind is ast.Mult and any(numbers):
        count, sequence = (a, b) if numbers[0] else (b, a)
        reader.budget.spend(max(int(count), 0) * len(sequence), where)
    else:
        raise TypeError(f"{kind.__name__} of {type(a).__name__} and {type(b).__name__}")
    return _ARITHMETIC[kind](a, b)


def unary(kind: type, value: Any) -> Any:
    """`-a`, `+a`, `not a`."""
    return _UNARY[kind](value)


def compare(reader: Reader, node: ast.AST, kind: type, left: Any, right: Any) -> bool:
    """`a < b`, `a in b` and the like; of plain values only: comparing nested lists may take exponential time.

    Raises:
        Missing: a list that is searched holds what cannot be had.
        TypeError: a value has parts.
    """
    if kind in (ast.In, ast.NotIn):
        if not is_scalar(left) or (isinstance(left, str) and len(left) > MAX_COMPARED):
            raise TypeError("a list or a long text in a list")
        reader.budget.spend(len(right), reader.where(node))
        found = left in right
        unknown = None if found or isinstance(right, str) else first_unknown(right)
        if unknown:
            raise Missing(unknown)
        return found == (kind is ast.In)
    if kind not in (ast.Is, ast.IsNot) and not (is_scalar(left) and is_scalar(right)):
        raise TypeError(f"a comparison of {type(left).__name__} and {type(right).__name__}")
    if isinstance(left, str):
        reader.budget.spend(len(left), reader.where(node))
    return bool(_COMPARISON[kind](left, right))
