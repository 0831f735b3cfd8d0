"""ResNet and its relatives from MMPose's configs and from experiment files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..archs.simple_baseline import ResNet
from ..layers.blocks import BasicBlock, Bottleneck
from ..layers.head import DECONV_PADDING, Head
from .built import BuiltNetwork, evaluated
from .heads import MapHead
from .resnet_blocks import GroupedBottleneck, SCBottleneck, SEBottleneck, SplitAttentionBottleneck
from .section import Section

_BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
    269: (3, 30, 48, 8),
}
_DEPTHS = {
    "ResNet": (18, 34, 50, 101, 152),
    "ResNetV1d": (18, 34, 50, 101, 152),
    "SEResNet": (50, 101, 152),
    "ResNeXt": (50, 101, 152),
    "ResNeSt": (50, 101, 152, 200, 269),
    "SCNet": (50, 101),
}
TYPES = tuple(_DEPTHS)


def resnet(backbone: Section, kind: str, head_of: Callable[[int], MapHead]) -> BuiltNetwork:
    """A network on one of `TYPES`; `head_of` reads the head, given how many maps the backbone gives."""
    depth = backbone.one_of("depth", _DEPTHS[kind])
    backbone.one_of("in_channels", (3,), 3)
    backbone.one_of("expansion", (None,), None)
    stem, base = backbone.integer("stem_channels", 64), backbone.integer("base_channels", 64)
    layers = backbone.one_of("num_stages", (1, 2, 3, 4), 4)
    strides = backbone.integers("strides", (1, 2, 2, 2), length=layers)
    backbone.integers("dilations", (1,) * layers, length=layers, known=(1,))
    outputs = backbone.raw("out_indices", (3,))
    if not isinstance(outputs, list | tuple) or not outputs or not set(outputs) <= set(range(layers)):
        raise backbone.refusal(f"out_indices={outputs!r:.80}, expected some of 0 to {layers - 1}")
    outputs = sorted(set(outputs))
    caffe = backbone.one_of("style", ("pytorch", "caffe"), "pytorch") == "caffe"
    v1d = kind in ("ResNetV1d", "ResNeSt")  # whose deep stem and pooled shortcuts are no options
    deep_stem = v1d or backbone.flag("deep_stem")
    block, options = _block(backbone, kind, depth, base)
    options["avg_down"] = v1d or backbone.flag("avg_down")
    if block not in (BasicBlock, SCBottleneck):  # MMPose gives both the style, which they do not use
        options["caffe"] = caffe
    backbone.convolutions()
    backbone.close()

    planes = [base * 2**i for i in range(layers)]
    head = head_of(len(outputs))
    head.check([planes[i] * block.expansion for i in outputs])
    build = partial(
        evaluated,
        ResNet,
        head.keypoints,
        blocks=_BLOCKS[depth][:layers],
        block=block,
        options=options,
        stem=stem,
        deep_stem=deep_stem,
        planes=planes,
        strides=strides,
        features=head.features.among(outputs),
        head=head.layers,
    )
    style = "_caffe" * (caffe and "caffe" in options)
    return BuiltNetwork(f"{kind.lower()}_{depth}{style}", build, head.keypoints)


def _block(backbone: Section, kind: str, depth: int, base: int) -> tuple[type[Any], dict[str, Any]]:
    """The residual block of a network, and its own arguments."""
    if kind == "SEResNet":
        return SEBottleneck, {"ratio": backbone.integer("se_ratio", 16)}
    if kind == "ResNeXt":
        groups, per_group = backbone.integer("groups", 32), backbone.integer("width_per_group", 4)
        return GroupedBottleneck, {"groups": groups, "per_group": per_group, "base": base}
    if kind == "ResNeSt":
        groups, per_group = backbone.integer("groups", 1), backbone.integer("width_per_group", 4)
        radix, reduction = backbone.integer("radix", 2), backbone.integer("reduction_factor", 4)
        split = {"radix": radix, "reduction": reduction, "pool": backbone.flag("avg_down_stride", True)}
        return SplitAttentionBottleneck, {"groups": groups, "per_group": per_group, "base": base, **split}
    if kind == "SCNet":
        return SCBottleneck, {}
    return (BasicBlock if depth < 50 else Bottleneck), {}


def pose_resnet(model: Section) -> BuiltNetwork:
    """`pose_resnet` of an experiment file; what is absent has the repositories' default."""
    extra = model.section("EXTRA")
    extra.ignore("HEATMAP_SIZE", "PRETRAINED_LAYERS", "SIGMA", "TARGET_TYPE")
    depth = extra.one_of("NUM_LAYERS", _DEPTHS["ResNet"])
    extra.one_of("DECONV_WITH_BIAS", (False,), False)
    count = extra.integer("NUM_DECONV_LAYERS", 3)
    widths = extra.integers("NUM_DECONV_FILTERS", (256,) * 3, length=count)
    kernels = extra.integers("NUM_DECONV_KERNELS", (4,) * 3, length=count, known=tuple(DECONV_PADDING))
    kernel = extra.one_of("FINAL_CONV_KERNEL", (1, 3), 1)
    extra.close()
    caffe = model.one_of("STYLE", ("pytorch", "caffe"), "pytorch") == "caffe"
    # The caffe style has bottlenecks at any depth.
    block: type[Any] = Bottleneck if caffe or depth >= 50 else BasicBlock
    options: Mapping[str, Any] = {"caffe": True} if caffe else {}
    head = Head(tuple(zip(widths, kernels, strict=True)), final=(kernel, kernel // 2))
    keypoints = model.integer("NUM_JOINTS")
    build = partial(evaluated, ResNet, keypoints, blocks=_BLOCKS[depth], block=block, options=options, head=head)
    return BuiltNetwork(f"resnet_{depth}{'_caffe' * caffe}", build, keypoints)
