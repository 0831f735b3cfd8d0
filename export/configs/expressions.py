"""Evaluate the expressions of a config: literals, names, arithmetic, comprehensions and a few builtins, nothing else.

Every operation is priced before it is done, and texts, lists and numbers stay small, so that no expression takes more
time or memory than `Budget` allows. What is not understood gives an `Unknown`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from ...runtime.errors import ConfigError
from .arithmetic import MAX_INT, binary, compare, unary
from .methods import FUNCTIONS, METHODS, items
from .syntax import called
from .values import STEP, Budget, Missing, Symbol, Unknown, first_unknown, is_scalar, key, short

_MAX_DEPTH = 120  # of expressions in each other, far below Python's own limit


class Expressions:
    """The expressions of one file.

    Attributes:
        names: the variables so far.
        hidden: names that functions of the file may change when they are called.
    """

    def __init__(self, label: str, budget: Budget) -> None:
        self.label, self.budget = label, budget
        self.names: dict[str, Any] = {}
        self.hidden: set[str] = set()
        self._depth = 0

    def where(self, node: ast.AST) -> str:
        """File and line of a node."""
        return f"{self.label}:{getattr(node, 'lineno', 1)}"

    def unknown(self, node: ast.AST, why: str) -> Unknown:
        """A value that cannot be had, at a node."""
        return Unknown(f"{self.where(node)}: {why}")

    def evaluate(self, node: ast.expr) -> Any:
        """The value of an expression, or an `Unknown`.

        Raises:
            ConfigError: it costs too much.
        """
        self.budget.spend(STEP, self.where(node))
        self._depth += 1
        try:
            if self._depth > _MAX_DEPTH:
                raise ConfigError(f"{self.where(node)}: nested too deeply for a config")
            rule = self._RULES.get(type(node))
            value = rule(self, node) if rule else self.unknown(node, f"{type(node).__name__} is not read")
        except ConfigError:
            raise
        except Missing as missing:
            value = missing.unknown
        except Exception as error:  # whatever Python raises for it: a missing name, a wrong index
            value = self.unknown(node, short(error))
        finally:
            self._depth -= 1
        if isinstance(value, int) and abs(value) >= MAX_INT:
            raise ConfigError(f"{self.where(node)}: a number of more than 63 bits")
        spoiled = self.budget.spoiled.get(id(value))
        return spoiled[1] if spoiled else value

    def walk(self, node: ast.AST) -> Iterator[ast.AST]:
        """All nodes of a part of the tree, each for the price of a step."""
        for inner in ast.walk(node):
            self.budget.spend(STEP, self.where(node))
            yield inner

    def call_changes(self, node: ast.AST, values: list[Any]) -> Unknown:
        """What code gives that is not run, after which what it was given may be changed."""
        unknown = self.unknown(node, f"{called(node)} is code, which is not run")
        for name in self.hidden:
            values.append(self.names.get(name))
        for value in values:
            self.budget.spoil(value, unknown, self.where(node))
        return unknown

    def assign(self, target: ast.expr, value: Any) -> None:
        """Bind a target of an assignment, a loop or a comprehension."""
        self.budget.spend(STEP, self.where(target))
        if isinstance(target, ast.Name):
            self.names[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            if any(isinstance(t, ast.Starred) for t in target.elts) and not isinstance(value, Unknown):
                value = self.unknown(target, "a starred assignment is not read")
            parts = [value] * len(target.elts) if isinstance(value, Unknown) else items(self, target, value)
            if len(parts) != len(target.elts):
                raise ConfigError(f"{self.where(target)}: {len(parts)} values for {len(target.elts)} names")
            for part, item in zip(target.elts, parts, strict=True):
                self.assign(part, item)
        elif isinstance(target, ast.Starred):
            self.assign(target.value, value)
        elif isinstance(target, ast.Subscript | ast.Attribute):
            holder = self.evaluate(target.value)
            at = target.attr if isinstance(target, ast.Attribute) else self.evaluate(target.slice)
            try:
                if not isinstance(holder, Unknown):
                    holder[key(at)] = value
            except (TypeError, LookupError) as error:
                self.budget.spoil(holder, self.unknown(target, short(error)), self.where(target))

    def sequence(self, nodes: list[ast.expr]) -> Iterator[Any]:
        """The elements of a display, with `*part` unpacked."""
        for node in nodes:
            if isinstance(node, ast.Starred):
                yield from items(self, node, self._known(self.evaluate(node.value)))
            else:
                yield self.evaluate(node)

    @staticmethod
    def _known(value: Any) -> Any:
        if isinstance(value, Unknown):
            raise Missing(value)
        return value

    def _name(self, node: ast.Name) -> Any:
        if node.id in self.names:
            return self.names[node.id]
        if node.id == "_environment_variable_":
            return self.unknown(node, "an environment variable, which is not read")
        return self.unknown(node, f"the name {node.id[:60]!r} is not known")

    def _constant(self, node: ast.Constant) -> Any:
        value = node.value
        self.budget.spend(len(value) if isinstance(value, str) else 1, self.where(node))
        if isinstance(value, str) and "{{" in value and "}}" in value:
            return self.unknown(node, f"the template {value[:60]!r}")
        return value if is_scalar(value) else self.unknown(node, f"a {type(value).__name__}")

    def _dict(self, node: ast.Dict) -> Any:
        out: dict[Any, Any] = {}
        for at, value in zip(node.keys, node.values, strict=True):
            if at is None:
                more = self._known(self.evaluate(value))
                self.budget.spend(STEP * len(more), self.where(node))
                out.update(more)
            else:
                out[key(self._known(self.evaluate(at)))] = self.evaluate(value)
        return out

    def _subscript(self, node: ast.Subscript) -> Any:
        holder = self._known(self.evaluate(node.value))
        if isinstance(holder, Symbol):
            return self.unknown(node, f"{holder} is imported, which is not read")
        if isinstance(node.slice, ast.Slice):
            parts = (node.slice.lower, node.slice.upper, node.slice.step)
            self.budget.spend(len(holder), self.where(node))
            return holder[slice(*(self._known(self.evaluate(p)) if p else None for p in parts))]
        at = key(self._known(self.evaluate(node.slice)))
        return holder[at]

    def _attribute(self, node: ast.Attribute) -> Any:
        holder = self._known(self.evaluate(node.value))
        if isinstance(holder, dict):
            return holder[node.attr]
        if isinstance(holder, Symbol):
            self.budget.spend(len(holder), self.where(node))
            return Symbol(f"{holder}.{node.attr}")
        return self.unknown(node, f"the attribute {node.attr[:60]!r} is not read")

    def _binary(self, node: ast.BinOp) -> Any:
        return binary(self, node, type(node.op), self.evaluate(node.left), self.evaluate(node.right))

    def _unary(self, node: ast.UnaryOp) -> Any:
        return unary(type(node.op), self._known(self.evaluate(node.operand)))

    def _compare(self, node: ast.Compare) -> Any:
        left = self._known(self.evaluate(node.left))
        for op, right_node in zip(node.ops, node.comparators, strict=True):
            right = self._known(self.evaluate(right_node))
            if not compare(self, node, type(op), left, right):
                return False
            left = right
        return True

    def _bool(self, node: ast.BoolOp) -> Any:
        value = None
        for part in node.values:
            value = self._known(self.evaluate(part))
            if bool(value) != isinstance(node.op, ast.And):
                break
        return value

    def _if(self, node: ast.IfExp) -> Any:
        return self.evaluate(node.body if self._known(self.evaluate(node.test)) else node.orelse)

    def _f_string(self, node: ast.JoinedStr) -> str:
        parts = []
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                value = self._known(self.evaluate(part.value))
                if part.format_spec or part.conversion != -1 or not is_scalar(value):
                    raise TypeError("a format")
                parts.append(str(value))
            else:
                parts.append(self._known(self.evaluate(part)))
            self.budget.spend(len(parts[-1]), self.where(node))
        return "".join(parts)

    def _lambda(self, node: ast.Lambda) -> Unknown:
        self.hidden |= {n.id for n in self.walk(node) if isinstance(n, ast.Name)}
        return self.unknown(node, "a function")

    def _walrus(self, node: ast.NamedExpr) -> Any:
        value = self.evaluate(node.value)
        self.assign(node.target, value)
        return value

    def _comprehension(self, node: Any) -> Any:
        out: list[Any] = []
        bound = {n.id for g in node.generators for n in self.walk(g.target) if isinstance(n, ast.Name)}
        before = {name: self.names[name] for name in bound if name in self.names}

        def loop(generators: list[ast.comprehension]) -> None:
            if not generators:
                if isinstance(node, ast.DictComp):
                    out.append((key(self._known(self.evaluate(node.key))), self.evaluate(node.value)))
                else:
                    out.append(self.evaluate(node.elt))
                return
            first, *rest = generators
            for item in items(self, node, self._known(self.evaluate(first.iter))):
                self.budget.spend(STEP, self.where(node))
                self.assign(first.target, item)
                if all(self._known(self.evaluate(test)) for test in first.ifs):
                    loop(rest)

        try:
            loop(node.generators)
        finally:
            for name in bound:
                self.names.pop(name, None)
            self.names.update(before)
        return dict(out) if isinstance(node, ast.DictComp) else out

    def _call(self, node: ast.Call) -> Any:
        try:
            args, named = list(self.sequence(node.args)), {}
            for word in node.keywords:
                value = self.evaluate(word.value)
                more = {word.arg: value} if word.arg else self._known(value)
                self.budget.spend(STEP * len(more), self.where(node))
                named.update({str(name): item for name, item in more.items()})
        except Missing as missing:
            self.call_changes(node, [])
            return missing.unknown
        function = node.func
        if isinstance(function, ast.Attribute):
            holder = self.evaluate(function.value)
            method = METHODS.get((type(holder), function.attr))
            if method:
                try:
                    return method(self, node, holder, *args, **named)
                except (TypeError, ValueError, LookupError) as error:
                    self.budget.spoil(holder, self.unknown(node, short(error)), self.where(node))
                    raise
            return self.call_changes(node, [holder, *args, *named.values()])
        name = function.id if isinstance(function, ast.Name) else ""
        if name in FUNCTIONS and name not in self.names:
            unknown = None if name in ("dict", "print") else first_unknown(args)
            return unknown or FUNCTIONS[name](self, node, *args, **named)
        return self.call_changes(node, [*args, *named.values()])

    _RULES: ClassVar[dict[type, Callable[..., Any]]] = {
        ast.Name: _name,
        ast.Constant: _constant,
        ast.Dict: _dict,
        ast.List: lambda self, node: list(self.sequence(node.elts)),
        ast.Tuple: lambda self, node: tuple(self.sequence(node.elts)),
        ast.Set: lambda self, node: {key(self._known(v)) for v in self.sequence(node.elts)},
        ast.Subscript: _subscript,
        ast.Attribute: _attribute,
        ast.BinOp: _binary,
        ast.UnaryOp: _unary,
        ast.Compare: _compare,
        ast.BoolOp: _bool,
        ast.IfExp: _if,
        ast.JoinedStr: _f_string,
        ast.Lambda: _lambda,
        ast.NamedExpr: _walrus,
        ast.ListComp: _comprehension,
        ast.GeneratorExp: _comprehension,
        ast.SetComp: lambda self, node: {key(v) for v in self._comprehension(node)},
        ast.DictComp: _comprehension,
        ast.Call: _call,
    }
