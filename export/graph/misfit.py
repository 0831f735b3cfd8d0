"""What is wrong where a network and a contract do not belong together, and the line that mends it; for messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...runtime.bundle.contract import Contract
from ...runtime.pose.heads import Outputs, Shapes, head

Shape = tuple[int, ...]
SOFTMAXED = (
    "each map of the network is positive and has the sum 1, as after a softmax; the decode rules read what is before "
    "it, and scores would be wrong: leave the last softmax out of the network"
)
_OTHER = "give the config or contract that belongs to this network"


def input_line(contract: Contract, dims: Sequence[int | None]) -> str:
    """What to do about an input of another shape than the contract's crops; None: a size that may vary."""
    if len(dims) != 4:
        return "this is no network of images"
    channels, height, width = (dims[3], *dims[1:3]) if dims[3] in (1, 3, 4) else dims[1:]
    if channels not in (3, None):
        return (
            f"the network takes {channels} channels, and posert runs networks of three; one of grey images needs a "
            "first layer that makes one channel of three, such as a mean"
        )
    if None in (width, height):
        return _OTHER
    if (width, height) == (contract.height, contract.width):
        return (
            f"width and height are swapped; the contract's lines for this network are width: {width}, height: {height}"
        )
    if width == height and width >= 416 and contract.width != contract.height:  # type: ignore[operator]
        return "this may be a detector; expected a top-down pose network, which sees one person at a time"
    return f"{_OTHER}; its lines would be width: {width}, height: {height}"


def outputs_line(contract: Contract, found: Mapping[str, Shape]) -> str:
    """What outputs of other shapes than the decode rule reads look like, and what to do; a shape has no batch."""
    expected, shapes, joints = head(contract.decode).shapes(contract), list(found.values()), len(contract.keypoints)
    maps = [shape for shape in shapes if len(shape) == 3]
    if _detector(found):
        return "these look like the boxes of a detector; expected a top-down pose network"
    if any(len(shape) == 2 and shape[1] in (2, 3) and shape[0] < 1000 for shape in shapes) and not maps:
        return (
            "these look like joints that are decoded already; export the network without its decoding, which posert "
            "does by the contract's rule"
        )
    if len(maps) == 1 and len(shapes) == 1 and len(expected) == 1:
        return _maps_line(contract, maps[0], expected[0], joints)
    vectors = [shape for shape in shapes if len(shape) == 2]
    if len(vectors) == 2 and vectors[0][0] == vectors[1][0]:
        return _vectors_line(contract, vectors, expected, joints)
    if len(maps) == 1 and len(expected) == 2:
        return f"these are heatmaps and the decode rule reads SimCC vectors; {_OTHER}"
    if len(maps) > 1 and len(expected) == 1:
        return "export the network with the one output to decode"
    return _OTHER


def _maps_line(contract: Contract, seen: Shape, expected: Shape, joints: int) -> str:
    count, height, width = seen
    if seen[1:] != expected[1:] and count == expected[0]:
        return (
            f"the maps are {width} cells wide and {height} high; the contract's lines for that are heatmap_width: "
            f"{width} and heatmap_height: {height} (heatmap_size=({width}, {height}) in a config)"
        )
    if expected[0] == joints and count == 3 * joints:
        return (
            "these look like UDP's combined maps, three for each joint; the contract's line for that is decode: "
            "udp_heatmap_combined (heatmap_type='combined' in a config) or, of MMPose 0.x, decode: udp_combined"
        )
    if expected[0] == 3 * joints and count == joints:
        return (
            "the decode rule reads three maps for each joint, and this network gives one; the contract's line for that "
            "is decode: udp_heatmap or, of MMPose 0.x, decode: udp"
        )
    return _joints_line(count, joints)


def _vectors_line(contract: Contract, seen: Sequence[Shape], expected: Shapes, joints: int) -> str:
    lengths = [shape[1] for shape in seen]
    if len(expected) == 1:
        return f"these are SimCC vectors and the decode rule {contract.decode!r} reads heatmaps; {_OTHER}"
    if seen[0][0] != joints:
        return _joints_line(seen[0][0], joints)
    ratio = lengths[0] / contract.width
    if lengths[1] == ratio * contract.height:
        return (
            f"the vectors have {ratio:g} places for each px of the crop; the contract's lines for that are "
            f"heatmap_width: {lengths[0]} and heatmap_height: {lengths[1]} (simcc_split_ratio={ratio} in a config)"
        )
    return _OTHER


def _joints_line(seen: int, joints: int) -> str:
    return (
        f"the network is for {seen} joints and the contract for {joints}: give the --dataset-file, config or contract "
        f"of its {seen} joints"
    )


def _detector(found: Mapping[str, Shape]) -> bool:
    """By the names that exporters give, or by many rows of numbers per box."""
    named = {name.lower() for name in found} & {"dets", "labels", "boxes", "bboxes", "pred_boxes", "num_dets"}
    rows = any(len(shape) == 2 and max(shape) >= 1000 and 5 <= min(shape) < 1000 for shape in found.values())
    return bool(named) or (rows and len(found) == 1)


def softmaxed(outputs: Outputs) -> bool:
    """Whether each map or vector is a distribution: not below zero, with a sum of one."""
    return all(
        output.ndim >= 3
        and bool((output >= 0).all())
        and np.allclose(output.sum(axis=tuple(range(2, output.ndim)), dtype=np.float64), 1, atol=1e-3)
        for output in outputs
    )
