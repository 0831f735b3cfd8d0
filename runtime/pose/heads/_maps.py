"""What the rules have in common that read one map per joint."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ...bundle.contract import Contract
from ..flip import merge
from . import Outputs, Shapes

Float = NDArray[np.float32]
Double = NDArray[np.float64]


def one_map_per_joint(contract: Contract) -> Shapes:
    """One output `(K, h, w)`."""
    return ((len(contract.keypoints), contract.heatmap_height, contract.heatmap_width),)


def per_map(rule: Callable[[Float, int], tuple[Double, Float]]) -> Callable[[Outputs, Contract], tuple[Double, Float]]:
    """`Head.decode` of a rule that reads each map for itself.

    Args:
        rule: takes M maps `(M, h, w)` and the size of a Gaussian, cells; gives `(M, 2)` and `(M,)`.
    """

    def decode(outputs: Outputs, contract: Contract) -> tuple[Double, Float]:
        (maps,) = outputs
        people, joints, height, width = maps.shape
        xy, score = rule(maps.reshape(people * joints, height, width), contract.kernel)
        return xy.reshape(people, joints, 2), score.reshape(people, joints)

    return decode


def mean_of_maps(outputs: Outputs, contract: Contract) -> Outputs:
    """`Head.merge`: the mean of the maps and of the mirrored ones turned back."""
    return (merge(outputs[0], contract.flip_index, contract.flip_shift),)
