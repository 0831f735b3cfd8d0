"""Registries: specs found by name in a folder of this package and in the entry points of installed packages.

Adding an entry touches one file, or none: that of another package.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, Protocol, TypeVar

from .errors import CatalogError, PosertError

GROUPS = (
    "posert.archs",
    "posert.backends",
    "posert.datasets",
    "posert.decoding",
    "posert.detectors",
    "posert.exports",
    "posert.heads",
    "posert.results",
)
"""Entry-point groups that posert reads."""


class Spec(Protocol):
    """What every registry holds: something with a name."""

    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=Spec)


@dataclass(frozen=True)
class Registry(Generic[T]):
    """Specs of one kind, from the files of a folder and from plug-ins.

    Attributes:
        kind: what an entry is called in messages: "backend".
        package: the folder, "posert.runtime.backends". A file's name is its spec's name; a leading underscore hides it.
        attribute: the variable of a file that holds its spec: "BACKEND".
        group: entry-point group of plug-ins, "posert.backends". An entry point's name is the spec's name, its value
            the spec: "their_package.module:BACKEND".
        spec: the spec's class.
        error: raised for a name that is unknown or cannot be loaded.
    """

    kind: str
    package: str
    attribute: str
    group: str
    spec: type[T]
    error: type[PosertError] = CatalogError

    def names(self) -> list[str]:
        """All names, sorted. No spec is imported."""
        return sorted({*module_names(self.package), *(entry.name for entry in plugins(self.group))})

    def load(self, name: str) -> T:
        """One spec.

        Raises PosertError: as `self.error`: the name is unknown (the nearest names are offered) or given twice, the
        plug-in does not import, or what it gives is no spec of this name. What a file of the folder raises when it is
        imported is raised as it is.
        """
        own = [f"{self.package}.{name}"] if name in module_names(self.package) else []
        found = [entry for entry in plugins(self.group) if entry.name == name]
        givers = [*own, *map(label, found)]
        if not givers:
            raise self.error(unknown_name(self.kind, name, self.names()))
        if len(givers) > 1:
            told = " and again by ".join(givers)
            raise self.error(f"the {self.kind} {name!r} is given by {told}: rename or uninstall one of them")
        if found:
            value = import_plugin(found[0], self.error)
        else:
            value = vars(importlib.import_module(givers[0])).get(self.attribute)
        if not isinstance(value, self.spec):
            seen = "absent" if value is None else f"a {type(value).__name__}"
            raise self.error(f"{givers[0]}: {self.attribute} is {seen}; expected a {self.spec.__name__}")
        if value.name != name:
            raise self.error(f"{givers[0]}: its {self.attribute} has the name {value.name!r}; expected {name!r}")
        return value

    def specs(self) -> dict[str, T]:
        """All specs by name, without the plug-ins that fail: see `plugin_failures`."""
        own = module_names(self.package)
        loaded: dict[str, T] = {}
        for name in self.names():
            try:
                loaded[name] = self.load(name)
            except self.error:
                if name in own:
                    raise
        return loaded

    def plugin_failures(self) -> dict[str, str]:
        """Plug-ins that do not give a spec, each with the reason: {"posert.heads: toy (their-package)": "..."}."""
        return plugin_failures(self.group, lambda entry: self.load(entry.name))


def plugins(group: str) -> tuple[EntryPoint, ...]:
    """Entry points of a group, of all packages that are installed."""
    return _entry_points(group, tuple(sys.path))


@cache  # reading them takes milliseconds, and each look-up of a name asks
def _entry_points(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=group))


def label(entry: EntryPoint) -> str:
    """A plug-in in messages: "posert.backends: NAME (package)"."""
    return f"{entry.group}: {entry.name} ({entry.dist.name if entry.dist else 'unknown package'})"


def import_plugin(entry: EntryPoint, error: type[PosertError] = PosertError) -> object:
    """The object that an entry point names.

    Raises PosertError: as `error`, where its import fails, for whatever reason: the plug-in is named.
    """
    try:
        return entry.load()
    except Exception as reason:  # somebody else's code
        raise error(f"the plug-in {label(entry)} does not import: {type(reason).__name__}: {reason}") from reason


def plugin_failures(group: str, load: Callable[[EntryPoint], object] = import_plugin) -> dict[str, str]:
    """Plug-ins of a group that `load` refuses, by label, each with the reason."""
    failures = {}
    for entry in plugins(group):
        try:
            load(entry)
        except PosertError as error:
            failures[label(entry)] = str(error)
    return failures


def module_names(package: str) -> list[str]:
    """Names of the modules in a package's folder, without importing them; a leading underscore hides one."""
    paths = importlib.import_module(package).__path__
    return sorted(m.name for m in pkgutil.iter_modules(paths) if not m.name.startswith("_"))


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Message for a name that is not in a registry: the nearest names first, then all that is known."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)  # at 0.5 foo is offered coco
    near = near or [known for known in names if name and known.startswith(name)][:3]  # onnx: onnxruntime
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return f"unknown {kind} {name!r}.{hint} Known: {', '.join(names)}"
