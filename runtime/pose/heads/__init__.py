"""Decode rules: from what a network gives for a crop to the joints in it. One file each; its name is the rule's name.

A `Head` says which outputs a network has, how they become joints, and how a flip test merges them. To add a rule, add a
file with a `HEAD`, or install a package with an entry point of the group `posert.heads`. `_peaks.py` has the arithmetic
that rules share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ...bundle.contract import Contract
from ...errors import InputError
from ...registry import Registry
from ..flip import merge

__all__ = ["HEADS", "Head", "Outputs", "Shapes", "check_outputs", "head"]

Outputs = tuple[NDArray[np.float32], ...]
"""One array per output of a network, batch first."""

Shapes = tuple[tuple[int, ...], ...]


def one_map_per_joint(contract: Contract) -> Shapes:
    """One output `(K, h, w)`."""
    return ((len(contract.keypoints), contract.heatmap_height, contract.heatmap_width),)


def mean_of_maps(outputs: Outputs, contract: Contract) -> Outputs:
    """The mean of the maps and of the mirrored ones turned back."""
    return (merge(outputs[0], contract.flip_index, contract.flip_shift),)


@dataclass(frozen=True)
class Head:
    """One decode rule.

    Attributes:
        name: as contracts name it.
        summary: what the rule does, in one line.
        source: where it comes from.
        decode: from the outputs of N people, C-contiguous float32, to xy `(N, K, 2)`, cells of the map with (0, 0) its
            first cell, and score `(N, K)` float32.
        shapes: the shape of each output for one person. Every size is read from the contract.
        merge: for a flip test, from the outputs of N crops and of their mirror images behind them, `(2 * N, ...)` each,
            to the outputs of the N.
        cuda: the rule's number in cuda/kernels.cu; None: also of a network on a GPU the outputs are decoded on the CPU.
        blurs: whether it blurs with the contract's kernel.
    """

    name: str
    summary: str
    source: str
    decode: Callable[[Outputs, Contract], tuple[NDArray[np.floating], NDArray[np.float32]]]
    shapes: Callable[[Contract], Shapes] = one_map_per_joint
    merge: Callable[[Outputs, Contract], Outputs] = mean_of_maps
    cuda: int | None = None
    blurs: bool = False


HEADS = Registry("decode rule", __name__, "HEAD", "posert.heads", Head)


@cache
def head(name: str) -> Head:
    """A decode rule by its name.

    Raises:
        CatalogError: for an unknown name; the nearest and all known names are listed.
    """
    return HEADS.load(name)


def check_outputs(outputs: Outputs, contract: Contract) -> None:
    """Check that outputs have the shapes that the contract's decode rule reads.

    Raises:
        InputError: they have others; both are named.
    """
    expected = head(contract.decode).shapes(contract)
    if tuple([output.shape[1:] for output in outputs]) != expected or len({len(output) for output in outputs}) != 1:
        raise InputError(
            f"the network's outputs have the shapes {', '.join(str(output.shape) for output in outputs)}; the decode "
            f"rule {contract.decode!r} of this contract reads {', '.join(str(shape) for shape in expected)} for each "
            "person"
        )
