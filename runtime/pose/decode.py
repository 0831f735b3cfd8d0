"""From a network's outputs to joints in the crop, by the contract's decode rule, and from there to the frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..bundle.contract import Contract
from ..errors import InputError
from .heads import Outputs, check_outputs, head

Float = NDArray[np.float32]


def decode(outputs: Outputs, contract: Contract) -> tuple[Float, Float]:
    """Joints of N people from a network's outputs, by the contract's decode rule (see `heads`).

    Args:
        outputs: one array `(N, ...)` per output, float32 or what converts to it, see `Head.shapes`.
        contract: names the rule and holds what it needs, such as the size of the map.

    Returns:
        xy `(N, K, 2)` float32, cells of the map with (0, 0) its first cell, and score `(N, K)` float32. A joint whose
        map has no value above zero is at (-1, -1).

    Raises:
        InputError: wrong shapes, or outputs that are not finite; the first person and joint are named.
        CatalogError: an unknown rule.
    """
    rule = head(contract.decode)
    arrays = tuple([np.ascontiguousarray(output, np.float32) for output in outputs])
    check_outputs(arrays, contract)
    if not len(arrays[0]):
        joints = len(contract.keypoints)
        return np.zeros((0, joints, 2), np.float32), np.zeros((0, joints), np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        cells, score = rule.decode(arrays, contract)
    xy = cells.astype(np.float32)
    # argmax stops at the first NaN, so one in any cell arrives here: the maps need not be searched for it
    if not (np.isfinite(score).all() and np.isfinite(xy).all()):
        bad = ~(np.isfinite(score) & np.isfinite(xy).all(axis=2))
        person, joint = np.argwhere(bad)[0]
        raise InputError(
            f"the heatmaps of {int(bad.sum())} of {bad.size} joints hold NaN or infinity, the first at person {person} "
            f"joint {joint}: the network overflowed; use the precision fp32"
        )
    return xy, score


def to_frame(xy: Float, center: Float, extent: Float, width: int, height: int, udp: bool = False) -> Float:
    """Take joints from the map to the frame.

    Args:
        xy: `(N, K, 2)`, cells of the map.
        center, extent: `(N, 2)`, px of the frame, of the crops that the maps belong to.
        width, height: size of the map, cells.
        udp: whether the extent spans `width - 1` cells (as in `crop_matrices`) or `width`.

    Returns:
        `(N, K, 2)` float32, px of the frame.
    """
    span = np.asarray(extent, np.float64)
    cell = span / ((width - 1, height - 1) if udp else (width, height))
    first = np.asarray(center, np.float64) - span * 0.5
    return np.asarray(xy * cell[:, None] + first[:, None], np.float32)


def px_per_cell(contract: Contract) -> tuple[float, float]:
    """Px of the crop per cell of the map, along x and y."""
    c = contract
    crop = np.array([c.width, c.height], np.float64) - c.udp
    cells = np.array([c.heatmap_width, c.heatmap_height], np.float64) - c.map_udp
    across, down = crop / cells
    return float(across), float(down)
