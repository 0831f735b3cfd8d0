"""Rules of the house that a linter does not know: what is public, what is private, and how long a file may be."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRODUCT = ("runtime", "calib", "export")
MAX_LINES = 300


def modules(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def import_name(path: Path) -> str:
    """`posert.runtime.cuda` for runtime/cuda/__init__.py, `posert.runtime.errors` for runtime/errors.py."""
    parts = ("posert", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def is_public(name: str) -> bool:
    return not any(part.startswith("_") for part in name.split("."))


def is_private(part: str) -> bool:
    return part.startswith("_") and not part.startswith("__")


def imports(path: Path, source: ast.Module | None = None) -> Iterator[tuple[int, str]]:
    """Line and absolute name of everything of posert that a module imports: `posert.runtime.errors.PosertError`."""
    package = import_name(path) if path.name == "__init__.py" else import_name(path).rpartition(".")[0]
    for node in ast.walk(source or tree(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.split(".")[0] == "posert")


def private_imports(path: Path, source: ast.Module | None = None) -> list[str]:
    """What a module imports that is private to a package in which it does not lie."""
    own = import_name(path) if path.name == "__init__.py" else import_name(path).rpartition(".")[0]
    found = []
    for line, name in imports(path, source):
        parts = name.split(".")
        for position, part in enumerate(parts):
            home = ".".join(parts[:position])
            # A name `_x` of a module `a.b` is private to the package `a`; so is a module `a._b`.
            module = ROOT.joinpath(*parts[1:position]).with_suffix(".py")
            package = home.rpartition(".")[0] if module.is_file() else home
            if is_private(part) and own != package and not own.startswith(f"{package}."):
                found.append(f"{relative(path)}:{line} imports {name}")
    return found


PACKAGES = [p for p in modules(*PRODUCT) if p.name == "__init__.py" and is_public(import_name(p.parent / "x.py"))]


@pytest.mark.parametrize("path", PACKAGES, ids=lambda p: import_name(p))
def test_a_package_says_what_is_public(path: Path) -> None:
    assigned = [n for n in tree(path).body if isinstance(n, (ast.Assign, ast.AnnAssign))]
    targets = {t.id for n in assigned for t in ast.walk(n) if isinstance(t, ast.Name) and isinstance(t.ctx, ast.Store)}
    assert "__all__" in targets, f"{relative(path)} has no __all__"
    package = importlib.import_module(import_name(path))
    assert len(set(package.__all__)) == len(package.__all__)
    known = {name for name in package.__all__ if hasattr(package, name)}
    files = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert set(package.__all__) <= known | files and not any(name.startswith("_") for name in package.__all__)


def test_nothing_private_crosses_packages() -> None:
    assert not [line for path in modules(*PRODUCT, "benchmarks") for line in private_imports(path)]


def test_private_imports_are_seen() -> None:
    """The check itself: which lines in a file of runtime/cuda/ take what is private to another package."""
    path = ROOT / "runtime" / "cuda" / "kernels.py"
    code = {
        "from ..errors import _hidden": False,  # of the package in which this one lies
        "from .. import _shared": False,
        "from .driver import _own": False,
        "from ._x import y": False,
        "from .. import __version__": False,
        "from ..errors import PosertError": False,
        "from ..pose.heads._maps import mean_of_maps": True,
        "from ..pose.heads import _maps": True,
        "from ..pose.flip import _hidden": True,
        "import posert.export.archs._blocks": True,
        "from posert.export.archs._blocks import conv_unit": True,
    }
    assert {line: bool(private_imports(path, ast.parse(line))) for line in code} == code


def test_files_are_short() -> None:
    lines = {relative(p): len(p.read_text(encoding="utf-8").splitlines()) for p in modules(*PRODUCT, "benchmarks")}
    assert not {name: count for name, count in lines.items() if count > MAX_LINES}


def test_what_is_marked_slow_is_there() -> None:
    """A test that is renamed would else leave `make test-slow` and join the suite that people wait for."""
    tree = ast.parse((ROOT / "tests" / "conftest.py").read_text())
    named = {ast.unparse(node.targets[0]): node.value for node in tree.body if isinstance(node, ast.Assign)}
    gone = []
    for name in ast.literal_eval(named["SLOW"]):
        file, _, tests = name.partition("::")
        text = (ROOT / file).read_text()
        gone += [name for test in tests.split("::") if test.partition("[")[0] not in text]
    assert not gone
