"""What `network_of` gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ...runtime.errors import CatalogError

_MOST_WEIGHTS = 1_000_000_000


@dataclass(frozen=True)
class BuiltNetwork:
    """A network that a config describes.

    Attributes:
        name: for the bundle, such as "hrnet_w18_v2".
        build: gives the network, freshly initialised and in evaluation mode. It maps normalised images `(N, 3, H, W)`
            to heatmaps `(N, C, h, w)`. Its state dict has the keys of a checkpoint without `backbone.`, `head.` and
            `keypoint_head.`.
        channels: C.
        outputs: how many outputs the network has.
    """

    name: str
    build: Callable[[], nn.Module]
    channels: int
    outputs: int = 1

    def check_size(self) -> None:
        """Raise CatalogError where the weights would take all memory, before any memory is taken."""
        with torch.device("meta"):
            weights = sum(p.numel() for p in self.build().parameters())
        if weights > _MOST_WEIGHTS:
            raise CatalogError(f"{self.name} of this config would have {weights} weights; the largest have 100 million")


def evaluated(network: Callable[..., nn.Module], *args: Any, **options: Any) -> nn.Module:
    """A network in evaluation mode."""
    return network(*args, **options).eval()
