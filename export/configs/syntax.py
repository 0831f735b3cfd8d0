"""The syntax tree of a config, made without exhausting Python's parser.

The parser and the tree need stack and memory in proportion to nesting and to tokens, and some versions of Python crash
where the stack ends. So both are counted first, by a scanner that does not nest.
"""

from __future__ import annotations

import ast
import re
import warnings

from ...runtime.errors import ConfigError
from .values import Budget, short

_MAX_NESTING = 100
_MAX_CHAIN = 400  # operators, calls, ... that follow each other without a comma
_MAX_F_STRING = 2000

_TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*)|(?P<prefix>\b[rRbBuUfF]{1,2}(?=['"]))?(?P<quote>\'\'\'|\"\"\"|'|")
    |(?P<word>\w+)|(?P<newline>\n)|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<comma>,)|(?P<other>[^\s])""",
    re.VERBOSE,
)
# What may come next in a text: an escape, its end, or an end of the line, which ends no text.
_NEXT = {q: re.compile(rf"\\.|{q}" + ("|\n" if len(q) == 1 else ""), re.DOTALL) for q in ("'''", '"""', "'", '"')}
_CHAINING = {"and", "or", "not", "if", "else", "elif", "lambda", "in", "is", "await", "yield"}

_BASE = re.compile(r"""(['"]?)\{\{\s*(_base_\.[\w.]+)\s*\}\}\1""")
_ENVIRONMENT = re.compile(r"""(['"]?)\{\{\s*\$\w+\s*:[^}\n]{0,200}\}\}\1""")


def parse(source: str, label: str, budget: Budget) -> ast.Module:
    """The syntax tree of a config; `{{_base_.x}}` stands for `_base_.x`, in quotes or not.

    Raises:
        ConfigError: it is no Python, or nests too deeply or is too long; the message names the line.
    """
    source = _BASE.sub(r"\2", source)
    source = _ENVIRONMENT.sub("_environment_variable_", source)
    _scan(source, label, budget)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a stray backslash in a path
            return ast.parse(source)
    except SyntaxError as error:
        raise ConfigError(f"{label}:{error.lineno or 1}: not the syntax of a Python config ({error.msg})") from error
    except (ValueError, MemoryError, RecursionError) as error:
        raise ConfigError(f"{label}:1: not a Python config that can be parsed ({short(error)})") from error


def _scan(source: str, label: str, budget: Budget) -> None:
    at, line, chains, elifs = 0, 1, [0], 0
    while match := _TOKEN.search(source, at):
        at, kind, text = match.end(), match.lastgroup, match.group()
        budget.tokens -= 1
        if kind == "newline":
            line += 1
            if len(chains) == 1:
                chains[0] = 0
        elif kind == "open":
            chains[-1] += 1
            chains.append(0)
        elif kind == "close":
            if len(chains) > 1:
                chains.pop()
        elif kind == "comma":
            chains[-1] = 0
        elif kind == "other" or text in _CHAINING:
            chains[-1] += 1
            elifs += text == "elif"
        elif kind == "quote":
            start, at = at, _end_of_text(source, at, match["quote"], f"{label}:{line}", budget)
            line += source.count("\n", start, at)
            if "f" in (match["prefix"] or "").lower():
                budget.tokens -= 10 + (at - start) // 4  # for the expressions in it
                if at - start > _MAX_F_STRING:
                    raise ConfigError(f"{label}:{line}: an f-string of {at - start} characters")
        if len(chains) > _MAX_NESTING or chains[-1] > _MAX_CHAIN or elifs > _MAX_NESTING:
            raise ConfigError(f"{label}:{line}: nested too deeply for a config")
        if budget.tokens < 0:
            raise ConfigError(f"{label}:{line}: too long for a config, with the files that it builds on")


def _end_of_text(source: str, at: int, quote: str, where: str, budget: Budget) -> int:
    """Where a text ends that begins at `at`."""
    while match := _NEXT[quote].search(source, at):
        at = match.end()
        budget.tokens -= 1
        if match.group() == quote:
            return at
        if match.group() == "\n" or budget.tokens < 0:
            break
    raise ConfigError(f"{where}: a text without an end, or with too many escapes")


def called(node: ast.AST) -> str:
    """What a call calls, in a few words."""
    function, parts = node.func if isinstance(node, ast.Call) else node, list[str]()
    while isinstance(function, ast.Attribute) and len(parts) < 5:
        parts.append(function.attr)
        function = function.value
    parts.append(function.id if isinstance(function, ast.Name) else "...")
    return f"{'.'.join(reversed(parts))[:80]}()"
