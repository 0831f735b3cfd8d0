"""Registries by folder: what a package offers is the files that lie in it, so that adding one touches one file."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from types import ModuleType

from .errors import PosertError


def module_names(package: str) -> list[str]:
    """Names of the modules in a package's folder, without importing them; a leading underscore hides one."""
    paths = importlib.import_module(package).__path__
    return sorted(m.name for m in pkgutil.iter_modules(paths) if not m.name.startswith("_"))


def load_module(package: str, name: str) -> ModuleType:
    """Import one module of a package by its file name."""
    return importlib.import_module(f"{package}.{name}")


def merge_tables(package: str, attribute: str) -> dict[str, object]:
    """Join the dictionaries called `attribute` of all modules of a package.

    Raises:
        PosertError: when two files give the same name; both are named.
    """
    merged: dict[str, object] = {}
    owner: dict[str, str] = {}
    for module in module_names(package):
        for name, value in getattr(load_module(package, module), attribute, {}).items():
            if name in merged:
                raise PosertError(
                    f"{package}: the name {name!r} is given by {owner[name]}.py and again by {module}.py; "
                    "rename one of them"
                )
            merged[name], owner[name] = value, module
    return merged


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Message for a name that is not in a registry: the nearest names first, then all that is known."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)  # at 0.5 foo is offered coco
    near = near or [known for known in names if name and known.startswith(name)][:3]  # onnx: onnxruntime
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return f"unknown {kind} {name!r}.{hint} Known: {', '.join(names)}"
