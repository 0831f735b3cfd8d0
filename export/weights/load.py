"""Where the weights of a build come from: the publisher, a file, the demo, or a random generator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...runtime.errors import CheckpointError
from .. import catalog
from ..catalog import Row
from ..demo import DEMOS, demo_weights
from . import checkpoint
from .download import Progress, fetch

DEMO_NOTE = "demo weights: a narrow network trained on synthetic people; its figures say nothing about real photographs"
RANDOM_NOTE = "random weights: the tools can be tried, the keypoints mean nothing"


@dataclass(frozen=True)
class Provenance:
    """What the manifest says about the weights."""

    source: str  # "auto", "file", "demo" or "random"
    file: str | None = None  # its name
    sha256: str | None = None
    layout: str | None = None  # whose key names the file used
    note: str = ""  # what a reader of its figures must know

    def published(self, row: Row, stages: int | None) -> dict[str, Any]:
        """The published figures of a row, and whether they are of these weights.

        `published` holds the figures where they are this checkpoint's, `published_elsewhere` where they are not, and
        `published_for` says whose they are. Demo weights and random weights have none.
        """
        if not row.metrics or self.sha256 is None:
            return {"published": {}}
        if stages is not None:
            own, whose = False, f"all stages of the network, not its first {stages}"
        elif row.sha256_prefix is None:
            own, whose = True, "this row; its publisher gives no digest, so nothing proves that this is the file"
        elif self.sha256.startswith(row.sha256_prefix):
            own, whose = True, "this checkpoint"
        else:
            own, whose = False, f"another file of this row ({row.file})"
        here, elsewhere = (dict(row.metrics), {}) if own else ({}, dict(row.metrics))
        return {"published": here, "published_elsewhere": elsewhere, "published_for": whose}


def check_source(row: Row, weights: str) -> None:
    """Refuse before any work what `load_weights` would refuse.

    Raises CheckpointError: there is no such file, or there are no demo weights for this row.
    """
    if weights == "demo" and row.dataset != "coco":
        raise CheckpointError(
            f"demo weights have COCO's 17 joints, {row.id} has those of {row.dataset}: use a COCO row"
        )
    if weights == "demo" and row.arch not in DEMOS:
        raise CheckpointError(
            f"there are no demo weights for {row.arch}, only for {', '.join(sorted(DEMOS))}; "
            "give a checkpoint of your own with --weights"
        )
    if weights not in ("auto", "demo", "random") and not Path(weights).is_file():
        raise CheckpointError(f"there is no checkpoint file {weights}; --weights takes auto, demo, random or a file")


def load_weights(row: Row, network: nn.Module, weights: str, progress: Progress | None = None) -> Provenance:
    """Fill a network with the weights that `--weights` names: "auto", "demo", "random" or a file.

    Raises CheckpointError: they cannot be had, or do not fit; the message says what else can be done.
    """
    check_source(row, weights)
    if weights == "random":
        network.load_state_dict(random_weights(network, row.height, row.width))
        return Provenance("random", note=RANDOM_NOTE)
    if weights == "demo":
        network.load_state_dict(demo_weights(row.arch))
        # Trained on RGB crops, as MMPose trains: a row whose own weights saw BGR must know.
        return Provenance("demo", layout="mmpose", note=DEMO_NOTE)
    path = fetch(row, progress) if weights == "auto" else Path(weights)
    found = checkpoint.load(path, network)
    # Names and shapes show neither the data set nor the size of the crop, so the digest has to.
    owners = sorted(r.id for r in catalog.rows().values() if r.sha256_prefix == found.sha256[:8])
    if owners and row.sha256_prefix != found.sha256[:8]:
        raise CheckpointError(
            f"{path.name} is the published file of {' and '.join(owners)}, whose contract is not that of {row.id}: "
            f"use --model {owners[0]}"
        )
    network.load_state_dict(found.state_dict)
    return Provenance("auto" if weights == "auto" else "file", path.name, found.sha256, found.layout)


def random_weights(network: nn.Module, height: int = 128, width: int = 128, seed: int = 0) -> dict[str, Tensor]:
    """Fill a network with random weights under which no layer dies or explodes, and return its state dict.

    Convolutions as He et al. (ICCV 2015), other matrices so that they keep the variance. A batch-norm's variance is
    then one number for all channels, measured there on an image of noise: so sums of branches stay in range at any
    depth, and no channel that noise hardly moves is a thousand times too large on another image. The noise is an image
    `(1, 3, height, width)`. The same seed gives the same weights.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    def settle(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
        power = inputs[0].square().mean()
        norm.running_mean.copy_(0.05 * power.sqrt() * normal(*norm.running_mean.shape))
        norm.running_var.fill_(power)

    hooks = []
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                weight = module.weight
                # products that reach one output value
                fan_in = weight[0].numel() if isinstance(module, nn.Conv2d) else weight[:, 0].numel() / 4
                weight.copy_(normal(*weight.shape) * (2.0 / fan_in) ** 0.5)
                if module.bias is not None:
                    module.bias.copy_(0.05 * normal(*module.bias.shape))
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
                module.weight.copy_(1 + 0.1 * normal(*module.weight.shape))
                module.bias.copy_(0.05 * normal(*module.bias.shape))
                hooks.append(module.register_forward_pre_hook(settle))
            else:
                for parameter in module.parameters(recurse=False):
                    if parameter.ndim > 1:  # vectors, such as a layer-norm's, are at their start
                        parameter.copy_(normal(*parameter.shape) * parameter[0].numel() ** -0.5)
        network.eval()(normal(1, 3, height, width))
    for hook in hooks:
        hook.remove()
    return network.state_dict()
