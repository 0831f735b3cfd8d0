"""Contracts of networks that tests make up."""

from __future__ import annotations

from posert.runtime.bundle.contract import Contract
from posert.runtime.datasets import dataset


def contract_of(name: str, width: int, height: int) -> Contract:
    """Joints of a data set on crops of `width` x `height` px; maps have a quarter of that."""
    joints = dataset(name)
    return Contract(
        dataset=name,
        keypoints=joints.keypoints,
        flip_pairs=joints.flip_pairs,
        skeleton=joints.skeleton,
        sigmas=joints.sigmas,
        width=width,
        height=height,
        heatmap_width=width // 4,
        heatmap_height=height // 4,
    )
