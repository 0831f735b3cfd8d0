"""Hourglasses and MSPN from MMPose's configs: networks whose stages repeat, of which the last one's map counts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..archs.hourglass import HourglassNet
from ..archs.mspn import MSPN
from .built import BuiltNetwork, evaluated
from .heads import MapHead
from .section import MOST_LAYERS, Section


def hourglass(backbone: Section, head_of: Callable[[int], MapHead]) -> BuiltNetwork:
    """HourglassNet; `head_of` reads the head, given the number of stacks."""
    levels = backbone.integer("downsample_times", 5, most=MOST_LAYERS) + 1
    stacks = backbone.integer("num_stacks", 2, most=MOST_LAYERS)
    widths = backbone.integers("stage_channels", (256, 256, 384, 384, 384, 512))
    blocks = backbone.integers("stage_blocks", (2, 2, 2, 2, 2, 4), length=len(widths), most=MOST_LAYERS)
    if len(widths) < levels:
        raise backbone.refusal(f"stage_channels={widths!r:.80}, expected {levels} for downsample_times={levels - 1}")
    features = backbone.integer("feat_channel", 256)
    backbone.convolutions()
    backbone.close()
    head = head_of(stacks)
    head.check([features])
    build = partial(
        evaluated, HourglassNet, head.keypoints, widths[:levels], blocks[:levels], stacks, features, head.layers
    )
    return BuiltNetwork(f"hourglassnet_{stacks}", build, head.keypoints)


def mspn(backbone: Section, head: Section) -> BuiltNetwork:
    """MSPN with MSPNHead (TopdownHeatmapMSMUHead in 0.x)."""
    stages, units = (
        backbone.integer("num_stages", 4, most=MOST_LAYERS),
        backbone.integer("num_units", 4, least=2, most=MOST_LAYERS),
    )
    blocks = backbone.integers("num_blocks", (2, 2, 2, 2), length=units, most=MOST_LAYERS)
    width = backbone.integer("unit_channels", 256)
    backbone.one_of("res_top_channels", (64,), 64)
    backbone.convolutions()
    backbone.close()
    head.ignore("decoder", "level_indices")
    for key, value, default in (("num_stages", stages, 4), ("num_units", units, 4), ("unit_channels", width, 256)):
        head.one_of(key, (value,), default)
    head.one_of("use_prm", (False,), False)
    size = head.integers("out_shape", (64, 48), length=2)
    keypoints = head.integer("out_channels", 17)
    head.convolutions()
    head.close()
    build = partial(evaluated, MSPN, keypoints, stages, width=width, blocks=blocks, map_size=(size[0], size[1]))
    return BuiltNetwork(f"mspn_{3 * sum(blocks) + 2}_{stages}", build, keypoints)
