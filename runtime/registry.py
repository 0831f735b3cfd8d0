"""Registries by folder: what a package offers is the files that lie in it, so that adding one touches one file."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Generic, TypeVar

from .errors import CatalogError, PosertError

T = TypeVar("T")


@dataclass(frozen=True)
class Registry(Generic[T]):
    """Specs found by name: files of a folder, and entry points of installed packages.

    Attributes:
        kind: what an entry is, for messages, such as "decode rule".
        package: holds one spec per file; the file's name is the spec's name, and a leading underscore hides a file.
        attribute: the variable that holds the spec in each file.
        group: entry-point group; an entry point's name is the spec's name, its value the spec object.
        spec: type of the specs; each has a `name`.
        error: raised for an unknown name.
    """

    kind: str
    package: str
    attribute: str
    group: str
    spec: type[T]
    error: type[PosertError] = CatalogError

    def names(self) -> list[str]:
        """All names, sorted. No spec's module is imported."""
        return sorted({*module_names(self.package), *(point.name for point in self._points())})

    def load(self, name: str) -> T:
        """The spec with this name.

        Raises:
            PosertError: the name is unknown (`error`, with the nearest names), given twice, does not import, or is not
                a spec of this name; the file or the package is named.
        """
        points = [point for point in self._points() if point.name == name]
        origins = [f"{self.package}.{name}"] if name in module_names(self.package) else []
        origins += [_origin(point) for point in points]
        if not origins:
            raise self.error(unknown_name(self.kind, name, self.names()))
        if len(origins) > 1:
            raise PosertError(f"the {self.kind} {name!r} is given twice, by {' and by '.join(origins)}: remove one")
        try:
            found = points[0].load() if points else getattr(load_module(self.package, name), self.attribute)
        except Exception as error:
            if not points:
                raise
            raise PosertError(f"the {self.kind} {name!r} of {origins[0]} does not import: {error}") from error
        if not isinstance(found, self.spec) or found.name != name:  # type: ignore[attr-defined]  # every spec has one
            raise PosertError(f"{origins[0]} is not a {self.spec.__name__} with the name {name!r}: {found!r}")
        return found

    def plugin_failures(self) -> dict[str, str]:
        """Which entry points do not load, and why."""
        failures = {}
        for point in self._points():
            try:
                self.load(point.name)
            except Exception as error:  # whatever somebody else's module raises
                failures[f"{self.group}: {point.name} ({_distribution(point)})"] = str(error)
        return failures

    def _points(self) -> list[EntryPoint]:
        return list(entry_points(group=self.group))


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "unknown package"


def _origin(point: EntryPoint) -> str:
    return f"{point.value} ({_distribution(point)})"


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
