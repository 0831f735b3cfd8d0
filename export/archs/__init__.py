"""Network architectures: one file per family, and entry points of installed packages.

Each file of this folder defines `ARCHITECTURES`, a tuple of `Architecture`; a file whose name begins with an underscore
is not read. An installed package adds its own through the entry-point group `posert.archs`, whose value is an
`Architecture` or a tuple of them, such as `toy = toy_pose:ARCHITECTURES`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import nn

from ...runtime.errors import CatalogError
from ...runtime.registry import label, module_names, plugins, unknown_name

__all__ = ["GROUP", "Architecture", "architecture", "architectures", "build_arch", "on_meta", "plugin_failures"]

GROUP = "posert.archs"
"""Entry-point group of installed architectures."""


@dataclass(frozen=True)
class Architecture:
    """What posert must know about a network.

    Attributes:
        name: as in `posert build --arch NAME`; no two architectures have the same.
        build: called with K, the number of keypoints; returns the network. It maps normalised images `(N, 3, H, W)`
            float32 to heatmaps `(N, K, H / stride, W / stride)` float32, and its state dict has the keys of the
            published checkpoints.
        stride: px of the crop per cell of the heatmap.
        stages: how many stages (stacks) the network has, where it can stop after each of them; `build` then takes
            `run_stages`, the stage to stop after, as a second argument. None: it cannot.
        rows: models of this architecture, by id: entries as in catalog.json, where published models stand, of which
            only `dataset` and `input` (height and width of the crop, px; multiples of 32 for most networks) must be
            stated. None of them is published.
    """

    name: str
    build: Callable[..., nn.Module]
    stride: int = 4
    stages: int | None = None
    rows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def architectures() -> dict[str, Architecture]:
    """All architectures by name: the files of this folder first, then installed packages.

    Raises:
        CatalogError: two of them have the same name, or a file of this folder defines no `ARCHITECTURES`.
    """
    return dict(_load()[0])


def plugin_failures() -> dict[str, str]:
    """Why an installed package's architectures cannot be loaded, by "posert.archs: NAME (package)"."""
    return dict(_load()[1])


def architecture(name: str) -> Architecture:
    """The architecture of this name.

    Raises:
        CatalogError: there is none; the nearest names are offered.
    """
    known = _load()[0]
    if name not in known:
        raise CatalogError(unknown_name("architecture", name, known))
    return known[name]


def build_arch(name: str, keypoints: int, stages: int | None = None) -> nn.Module:
    """A freshly initialised network for K keypoints in evaluation mode; `stages`: stop after this one, None: run all.

    Stopping early is faster and less accurate, with the same checkpoint.

    Raises:
        CatalogError: the architecture is unknown, or does not have so many stages.
    """
    found = architecture(name)
    if stages is None:
        return found.build(keypoints).eval()
    if found.stages is None:
        raise CatalogError(f"{name} is not made of stages, it cannot stop after {stages}: leave --stages out")
    if not 1 <= stages <= found.stages:
        raise CatalogError(
            f"{name} has {found.stages} stage{'s'[: found.stages > 1]}, it cannot stop after {stages}: "
            f"say 1 to {found.stages}"
        )
    return found.build(keypoints, run_stages=stages).eval()


def on_meta(name: str, keypoints: int, stages: int | None = None) -> nn.Module:
    """As `build_arch`, on torch's meta device: shapes without memory for the weights."""
    with torch.device("meta"):
        return build_arch(name, keypoints, stages)


@cache
def _load() -> tuple[dict[str, Architecture], dict[str, str]]:
    """Architectures by name, and the failures of installed packages."""
    known: dict[str, Architecture] = {}
    origins: dict[str, str] = {}
    failures: dict[str, str] = {}

    def add(given: tuple[Architecture, ...], origin: str) -> None:
        for found in given:
            if found.name in known:
                raise CatalogError(
                    f"two architectures are called {found.name!r}: in {origins[found.name]} and in {origin}; rename one"
                )
            known[found.name], origins[found.name] = found, origin

    for module in module_names(__name__):
        file = f"export/archs/{module}.py"
        add(_checked(vars(importlib.import_module(f"{__name__}.{module}")).get("ARCHITECTURES"), file), file)
    for entry in sorted(plugins(GROUP), key=lambda entry: entry.name):
        try:
            given = _checked(entry.load(), label(entry))
        except Exception as error:  # whatever an installed package raises must not stop the other architectures
            failures[label(entry)] = f"{type(error).__name__}: {error}"
        else:
            add(given, label(entry))
    return known, failures


def _checked(given: Any, origin: str) -> tuple[Architecture, ...]:
    found = (given,) if isinstance(given, Architecture) else given
    if not isinstance(found, tuple) or not all(isinstance(one, Architecture) for one in found):
        raise CatalogError(
            f"{origin}: expected ARCHITECTURES, a tuple of posert.export.archs.Architecture, found {given!r:.80}"
        )
    return found
