"""Pages of the Python interface: one per public package, with what its `__all__` names. mkdocstrings fills them."""

from __future__ import annotations

import importlib
import os
import pkgutil
from pathlib import Path

from posert.docs.generators.links import ROOT

FOLDER = "reference/python"
ROOTS = ("posert.runtime", "posert.calib", "posert.export")
SOURCES = Path("build/docs")
"""Where mkdocs.yml lets mkdocstrings look for posert, below the root of the checkout."""


_BARE = ("      members: false", "      show_root_heading: false", "      show_root_toc_entry: false")


def show_sources(root: Path = ROOT) -> None:
    """Lay out the package for mkdocstrings: it reads all below it, and the root of a checkout holds far more."""
    package = root / SOURCES / "posert"
    package.mkdir(parents=True, exist_ok=True)
    for name in ("__init__.py", *(r.partition(".")[2] for r in ROOTS)):
        (package / name).unlink(missing_ok=True)
        (package / name).symlink_to(os.path.relpath(root / name, package))


def packages() -> dict[str, list[str]]:
    """Public packages that name something, each with those names."""
    found = {}
    for root in ROOTS:
        paths = importlib.import_module(root).__path__
        inner = [m.name for m in pkgutil.walk_packages(paths, f"{root}.") if m.ispkg]
        for name in [root, *inner]:
            public = importlib.import_module(name).__all__
            if public:
                found[name] = sorted(public, key=str.lower)
    return found


def pages() -> dict[str, str]:
    """Every page by its path below docs/: the list of packages first, then each package."""
    named = packages()
    text = ["# Python", ""]
    text += ["What a package's `__all__` names is public. Everything else may change without notice.", ""]
    for root in ROOTS:
        text += [f"## {root}", "", "| package | names |", "|---|---|"]
        for package in (name for name in named if f"{name}.".startswith(f"{root}.")):
            names = ", ".join(f"`{name}`" for name in named[package])
            text.append(f"| [{package.removeprefix('posert.')}]({package}.md) | {names} |")
        text.append("")
    return {
        f"{FOLDER}/index.md": "\n".join(text),
        **{f"{FOLDER}/{package}.md": page(package, names) for package, names in named.items()},
    }


def page(package: str, names: list[str]) -> str:
    """A package: its docstring and every name of its `__all__`."""
    parts = [f"# {package}", "", f"::: {package}", "    options:", *_BARE, ""]
    for name in names:
        parts += [f"::: {package}.{name}", ""]
    return "\n".join(parts)
