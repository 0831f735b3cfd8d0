"""HRNet from MMPose's configs and from experiment files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..archs.hrnet import NEAREST, Enlarge, HighResolutionNet, Stage
from ..layers.blocks import BasicBlock, Bottleneck
from ..layers.features import Features
from ..layers.head import Head
from .built import BuiltNetwork, evaluated
from .heads import MapHead
from .section import MOST_LAYERS, Section

_BLOCKS = {"BASIC": BasicBlock, "BOTTLENECK": Bottleneck}


def hrnet(backbone: Section, head_of: Callable[[int], MapHead]) -> BuiltNetwork:
    """MMPose's HRNet; `head_of` reads the head, given how many maps the backbone gives."""
    backbone.one_of("in_channels", (3,), 3)
    extra = backbone.section("extra")
    layer1 = _stage(extra, "stage1", 1)
    stages = [_stage(extra, f"stage{n}", n) for n in (2, 3, 4)]
    enlarge = NEAREST
    if extra.raw("upsample", None) is not None:
        upsample = extra.section("upsample")
        mode = upsample.one_of("mode", ("nearest", "bilinear"))
        corners = upsample.one_of("align_corners", (None, False, True) if mode == "bilinear" else (None, False))
        enlarge = Enlarge(mode, corners if mode == "bilinear" else None)
        upsample.close()
    outputs = 4 if extra.section("stage4").flag("multiscale_output") else 1
    extra.close()
    backbone.convolutions()
    backbone.close()

    head = head_of(outputs)
    head.check(stages[2].widths[:outputs])
    build = partial(
        evaluated,
        HighResolutionNet,
        head.keypoints,
        layer1,
        stages,
        enlarge=enlarge,
        outputs=outputs,
        features=head.features,
        head=head.layers,
    )
    concatenated = len(head.features.indices) > 1
    return BuiltNetwork(f"hrnet_w{stages[2].planes[0]}{'_v2' * concatenated}", build, head.keypoints)


def _stage(extra: Section, name: str, branches: int) -> Stage:
    stage = extra.section(name)
    stage.one_of("num_branches", (branches,))
    modules = stage.integer("num_modules", most=MOST_LAYERS)
    blocks = stage.integers("num_blocks", length=branches, most=MOST_LAYERS)
    planes = stage.integers("num_channels", length=branches)
    block = _BLOCKS[stage.one_of("block", tuple(_BLOCKS))]
    if branches == 4:
        stage.flag("multiscale_output")
    stage.close()
    return Stage(modules, planes, blocks, block)


def pose_hrnet(model: Section) -> BuiltNetwork:
    """`pose_hrnet` of an experiment file: the stem and layer1 (four bottlenecks of 64) are in the repository's code."""
    extra = model.section("EXTRA")
    extra.ignore("HEATMAP_SIZE", "PRETRAINED_LAYERS", "SIGMA", "TARGET_TYPE")
    kernel = extra.one_of("FINAL_CONV_KERNEL", (1, 3))
    stages = []
    for branches in (2, 3, 4):
        stage = extra.section(f"STAGE{branches}")
        stage.one_of("NUM_BRANCHES", (branches,))
        stage.one_of("FUSE_METHOD", ("SUM",), "SUM")
        planes, blocks = (
            stage.integers("NUM_CHANNELS", length=branches),
            stage.integers("NUM_BLOCKS", length=branches, most=MOST_LAYERS),
        )
        block = _BLOCKS[stage.one_of("BLOCK", tuple(_BLOCKS))]
        stages.append(Stage(stage.integer("NUM_MODULES", most=MOST_LAYERS), planes, blocks, block))
        stage.close()
    extra.close()
    keypoints = model.integer("NUM_JOINTS")
    build = partial(
        evaluated,
        HighResolutionNet,
        keypoints,
        Stage(1, (64,), (4,), Bottleneck),
        stages,
        features=Features((0,)),
        head=Head(final=(kernel, kernel // 2)),
    )
    return BuiltNetwork(f"hrnet_w{stages[2].planes[0]}", build, keypoints)
