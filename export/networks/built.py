"""What `network_of` gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn


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


def evaluated(network: Callable[..., nn.Module], *args: Any, **options: Any) -> nn.Module:
    """A network in evaluation mode."""
    return network(*args, **options).eval()
