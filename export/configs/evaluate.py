"""Read an OpenMMLab config, old style or new, without importing or running anything.

The syntax tree is evaluated by rules of its own, with a budget for time, memory and files. What is not understood
becomes an `Unknown` that says its file and line; only whoever needs that very value fails. No environment variable is
read.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...runtime.errors import ConfigError
from .arithmetic import binary
from .bases import Bases
from .expressions import Expressions
from .fields import Field
from .files import decode, read_bytes
from .methods import items
from .syntax import parse
from .values import STEP, Budget, Symbol, Unknown

_MAX_FILES_DEEP = 10
_MAX_LEVELS = 60


@dataclass(frozen=True)
class Config:
    """What a config says.

    Attributes:
        values: the variables of the file and its bases, merged; a value that cannot be had is an `Unknown`.
        label: the file, for messages.
        notes: bases that were not found and are not needed.
        lines: file and line where each variable was last set.
    """

    values: Mapping[str, Any]
    label: str
    notes: tuple[str, ...] = ()
    lines: Mapping[str, str] = field(default_factory=dict)

    @property
    def top(self) -> Field:
        """The variables, for typed access."""
        return Field(self.values, "", self.label, self.lines)


def read_config(path: Path, root: Path | None = None) -> Config:
    """Read a config file and the files that it builds on.

    Args:
        path: the file.
        root: a folder of configs in which bases are looked for that are not found otherwise.

    Raises:
        ConfigError: it cannot be read, or costs more than `Budget` allows; the message names file and line.
    """
    return read_text(decode(read_bytes(path), str(path)), str(path), path.parent, root)


def read_text(source: str, label: str, folder: Path, root: Path | None = None) -> Config:
    """Read the text of a config; `folder` is where its relative bases are."""
    bases = Bases(Budget(), root)
    file = _File(label, folder, bases, ())
    values = file.read(source)
    finished = {name: _finish(value, bases.budget, file.lines.get(name, label)) for name, value in values.items()}
    return Config(finished, label, tuple(bases.notes), file.lines)


class _File(Expressions):
    """The statements of one file."""

    def __init__(self, label: str, folder: Path, bases: Bases, above: tuple[str, ...]) -> None:
        super().__init__(label, bases.budget)
        self.folder, self.bases, self.above = folder, bases, (*above, label)
        self._inner: set[str] = set()  # imported names, functions, classes: no part of the config
        self.lines: dict[str, str] = {}

    def read(self, source: str) -> dict[str, Any]:
        """The variables of a file, merged with those of its bases."""
        tree = parse(source, self.label, self.budget)
        base: dict[str, Any] = {}
        for node in tree.body:
            if (
                isinstance(node, ast.Assign)
                and isinstance(node.targets[0], ast.Name)
                and node.targets[0].id == "_base_"
            ):
                names = self.evaluate(node.value)
                listed = [names] if isinstance(names, str) else names
                if not isinstance(listed, list | tuple) or not all(isinstance(n, str) for n in listed):
                    raise ConfigError(f"{self.where(node)}: _base_ is no list of file names")
                for name in listed:
                    more = self._base(node, name)
                    for at in more.keys() & base.keys():
                        more[at] = self.unknown(node, f"two bases give {at!r}")
                    base.update(more)
        self.names["_base_"] = base
        for node in tree.body:
            self._statement(node)
        own = {
            name: value
            for name, value in self.names.items()
            if not name.startswith("__") and name != "_base_" and name not in self._inner
        }
        return self._merge(own, base, 0)

    def assign(self, target: ast.expr, value: Any) -> None:
        """Bind a target, and note its line."""
        super().assign(target, value)
        while isinstance(target, ast.Subscript | ast.Attribute):
            target = target.value
        if isinstance(target, ast.Name):
            self.lines[target.id] = self.where(target)
            self._inner.discard(target.id)

    def _base(self, node: ast.AST, name: str) -> dict[str, Any]:
        where = self.where(node)
        found = self.bases.find(name, self.folder, where)
        return self._other(found, where) if isinstance(found, Path) else found

    def _other(self, path: Path, where: str) -> dict[str, Any]:
        """The variables of another file."""
        if str(path) in self.above:
            raise ConfigError(f"{where}: bases in a circle: {' -> '.join([*self.above, str(path)])}"[:2000])
        if len(self.above) > _MAX_FILES_DEEP:
            raise ConfigError(f"{where}: more than {_MAX_FILES_DEEP} files build on each other")
        other = _File(str(path), path.parent, self.bases, self.above)
        values = other.read(self.bases.read(path, where))
        self.lines = {**other.lines, **self.lines}
        return values

    def _statement(self, node: ast.stmt) -> None:
        self.budget.spend(STEP, self.where(node))
        if isinstance(node, ast.Assign):
            if not (isinstance(node.targets[0], ast.Name) and node.targets[0].id == "_base_"):
                value = self.evaluate(node.value)
                for target in node.targets:
                    self.assign(target, value)
        elif isinstance(node, ast.AnnAssign):
            if node.value:
                self.assign(node.target, self.evaluate(node.value))
        elif isinstance(node, ast.AugAssign):
            self._augmented(node)
        elif isinstance(node, ast.Expr):
            self.evaluate(node.value)
        elif isinstance(node, ast.For):
            self._loop(node)
        elif isinstance(node, ast.If):
            test = self.evaluate(node.test)
            if isinstance(test, Unknown):
                self._not_read(node, test)
            else:
                self._block(node.body if test else node.orelse)
        elif isinstance(node, ast.With) and _is_read_base(node):
            for inner in node.body:
                self._read_base(inner)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            self._import(node)
        elif isinstance(node, ast.Delete):
            self._delete(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self.hidden |= {n.id for n in self.walk(node) if isinstance(n, ast.Name)}
            self.names[node.name] = self.unknown(node, f"{node.name[:60]} is a function")
            self._inner.add(node.name)
        elif not isinstance(node, ast.Pass | ast.Assert):
            self._not_read(node, self.unknown(node, f"{type(node).__name__} is not read"))

    def _block(self, nodes: list[ast.stmt]) -> None:
        for node in nodes:
            self._statement(node)

    def _augmented(self, node: ast.AugAssign) -> None:
        old, value = self.evaluate(node.target), self.evaluate(node.value)
        if isinstance(old, list) and isinstance(node.op, ast.Add) and isinstance(value, list | tuple):
            old.extend(list(items(self, node, value)))  # in place: other names of the list see it
            return
        try:
            result = binary(self, node, type(node.op), old, value)
        except (TypeError, KeyError, ArithmeticError) as error:
            result = self.unknown(node, f"{type(error).__name__}: {error}")
        self.assign(node.target, result)

    def _loop(self, node: ast.For) -> None:
        looped = self.evaluate(node.iter)
        leaves = any(isinstance(n, ast.Break | ast.Continue) for n in self.walk(node))
        try:
            looped = looped if isinstance(looped, Unknown) or leaves else items(self, node, looped)
        except TypeError as error:
            looped = self.unknown(node, str(error))
        if isinstance(looped, Unknown) or leaves:
            self._not_read(node, looped if isinstance(looped, Unknown) else self.unknown(node, "break is not read"))
            return
        for item in looped:
            self.budget.spend(STEP, self.where(node))
            self.assign(node.target, item)
            self._block(node.body)
        self._block(node.orelse)

    def _not_read(self, node: ast.AST, unknown: Unknown) -> None:
        """Whatever a statement may have set or changed that is not understood."""
        for inner in self.walk(node):
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store | ast.Del):
                self.names[inner.id] = unknown
            elif isinstance(inner, ast.Name):
                self.budget.spoil(self.names.get(inner.id), unknown, self.where(node))
            elif isinstance(inner, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                self.names[inner.name] = unknown
                self._inner.add(inner.name)
            elif isinstance(inner, ast.alias):
                self.names[(inner.asname or inner.name).split(".")[0]] = unknown

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            self.budget.spend(STEP, self.where(node))
            if alias.name == "*":  # it may set any name
                self.budget.spend(STEP * len(self.names), self.where(node))
                unknown = self.unknown(node, f"from {getattr(node, 'module', None)} import * is not read")
                self.names = dict.fromkeys(self.names, unknown)
                continue
            name = alias.asname or (alias.name if isinstance(node, ast.ImportFrom) else alias.name.split(".")[0])
            self.names[name] = Symbol(alias.name if alias.asname or isinstance(node, ast.ImportFrom) else name)
            self._inner.add(name)

    def _read_base(self, node: ast.stmt) -> None:
        if not isinstance(node, ast.ImportFrom):
            self._statement(node)
            return
        where = self.where(node)
        found = self.bases.find_module(node.module or "", node.level, self.folder, where)
        more = self._other(found, where) if isinstance(found, Path) else found
        for alias in node.names:
            if alias.name == "*":
                self.names.update(more)
                self._inner -= more.keys()
            else:
                value = more.get(alias.name, self.unknown(node, f"{node.module} has no {alias.name}"))
                self.names[alias.asname or alias.name] = value

    def _delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            self.budget.spend(STEP, self.where(node))
            if isinstance(target, ast.Name):
                self.names.pop(target.id, None)
            elif isinstance(target, ast.Subscript):
                holder, at = self.evaluate(target.value), self.evaluate(target.slice)
                try:
                    del holder[at]
                except (TypeError, LookupError):
                    self.budget.spoil(holder, self.unknown(node, "del is not read"), self.where(node))
            else:
                self._not_read(node, self.unknown(node, "del is not read"))

    def _merge(self, child: dict[Any, Any], base: dict[Any, Any], level: int) -> dict[Any, Any]:
        """MMEngine's rule: dicts merge key by key, `_delete_=True` starts one anew, all else replaces."""
        if level > _MAX_LEVELS:
            raise ConfigError(f"{self.label}:1: dicts nested too deeply for a config")
        self.budget.spend(STEP * (1 + len(child) + len(base)), f"{self.label}:1")
        out = dict(base)
        for name, value in child.items():
            old = out.get(name)
            spoiled = self.budget.spoiled.get(id(value)) or self.budget.spoiled.get(id(old))
            if not isinstance(value, dict) or name not in base or value.get("_delete_") is True or spoiled:
                out[name] = spoiled[1] if spoiled else value
            elif isinstance(old, dict):
                out[name] = self._merge(value, old, level + 1)
            elif isinstance(old, Unknown):
                out[name] = old
            else:
                out[name] = Unknown(f"{self.label}:1: {name!r} is a dict here and none in the base")
        return out


def _is_read_base(node: ast.With) -> bool:
    call = node.items[0].context_expr
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "read_base"


def _finish(value: Any, budget: Budget, where: str, level: int = 0) -> Any:
    """A copy without `_delete_`, in which what was changed by code is an `Unknown`."""
    budget.spend(STEP, where)
    if level > _MAX_LEVELS:
        raise ConfigError(f"{where}: a value nested too deeply for a config")
    if spoiled := budget.spoiled.get(id(value)):
        return spoiled[1]
    if isinstance(value, dict):
        return {at: _finish(v, budget, where, level + 1) for at, v in value.items() if at != "_delete_"}
    if isinstance(value, list | tuple):
        return type(value)(_finish(v, budget, where, level + 1) for v in value)
    return value
