"""What a contract says, in words."""

from __future__ import annotations

from ..bundle.contract import Contract
from .heads import HEADS


def output_words(c: Contract) -> str:
    """What a network gives and how it is decoded, in a line."""
    if c.decode not in HEADS.names():
        return f"{len(c.keypoints)} joints, decoded by {c.decode}, a rule that is not installed here"
    rule = HEADS.load(c.decode)
    shapes = rule.shapes(c)
    kernels = " and ".join(str(k) for k in (c.kernel, c.kernel_y) if k)
    decoded = f"decoded by {c.decode}" + (f" (kernel {kernels})" if rule.blurs else "")
    if len(shapes) == 1:
        maps, height, width = shapes[0]
        return f"{maps} heatmaps of {width}x{height}, {decoded}"
    (joints, along_x), (_, along_y) = shapes
    return f"two vectors for each of {joints} joints, of {along_x} cells along x and {along_y} along y, {decoded}"
