"""Demo models trained on synthetic people, so that every step of posert runs for real without a download."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...runtime.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DEMOS", "demo_weights"]

DEMOS = dict.fromkeys(("hrnet_demo", "hrnet_w32", "hrnet_w48"), "hrnet_demo") | dict.fromkeys(
    ("pose_resnet_demo", "pose_resnet_50", "pose_resnet_101", "pose_resnet_152"), "pose_resnet_demo"
)
"""Architectures with demo weights, and the trained network that each is, or holds."""


def demo_weights(arch: str) -> dict[str, Tensor]:
    """state_dict of `arch`, float32, that finds the 17 COCO keypoints of synthetic people in crops of 256x192.

    Raises:
        CheckpointError: there are no demo weights for this architecture.
    """
    # The generator, in this package too, needs neither of these and torch takes seconds to load.
    from safetensors.torch import load_file

    from .embed import embed

    if arch not in DEMOS:
        raise CheckpointError(
            f"there are no demo weights for {arch}, only for {', '.join(sorted(DEMOS))}; "
            "give a checkpoint of your own with --weights"
        )
    narrow = DEMOS[arch]
    state = {key: value.float() for key, value in load_file(Path(__file__).with_name(f"{narrow}.safetensors")).items()}
    return state if arch == narrow else embed(state, arch)
