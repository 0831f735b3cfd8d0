"""Reference architectures, one file per family; each file's ARCHS table maps a name to a constructor.

A constructor takes `keypoints` and returns a `torch.nn.Module` that maps normalised images `(N, 3, H, W)` float32
to heatmaps `(N, K, H/4, W/4)` float32, and whose state_dict keys are exactly the published ones. A network of several
stages, each with a map of its own, has the attributes `stages` (how many) and `run_stages` (after how many to stop).

A file may also have a table ROWS of catalog entries by id, see `posert.export.catalog`: then it needs no other file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from torch import nn

from ...runtime.errors import CatalogError
from ...runtime.registry import merge_tables, unknown_name

Constructor = Callable[..., nn.Module]


def archs() -> dict[str, Constructor]:
    """All architectures by name, found in this folder."""
    return cast("dict[str, Constructor]", merge_tables(__name__, "ARCHS"))


def build_arch(name: str, keypoints: int, stages: int | None = None) -> nn.Module:
    """A freshly initialised network in evaluation mode.

    Args:
        name: the architecture.
        keypoints: K.
        stages: for one of several stages (stacks), after how many to stop: faster and less accurate, with the same
            checkpoint. None runs them all.

    Raises:
        CatalogError: for a name no file of this folder gives (the nearest names are offered), or stages that the
            architecture has not.
    """
    known = archs()
    if name not in known:
        raise CatalogError(unknown_name("architecture", name, known))
    network = known[name](keypoints=keypoints).eval()
    if stages is not None:
        there = stages_of(network)
        if there is None:
            raise CatalogError(f"{name} is not made of stages, it cannot stop after {stages}: leave --stages out")
        if not 1 <= stages <= there:
            raise CatalogError(
                f"{name} has {there} stage{'s'[: there > 1]}, it cannot stop after {stages}: say 1 to {there}"
            )
        network.run_stages = stages  # type: ignore[assignment]
    return network


def stages_of(network: nn.Module) -> int | None:
    """Stages (stacks) after which a network can stop, None for one that is not made of stages."""
    return cast("int | None", getattr(network, "stages", None))
