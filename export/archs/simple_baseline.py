"""SimpleBaseline pose_resnet (Xiao et al., "Simple Baselines for Human Pose Estimation and Tracking", ECCV 2018).

A ResNet, deconvolutions and a 1x1 convolution. state_dict keys are those of the original repository; MMPose's add a
prefix (see layouts.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import accumulate
from operator import mul
from typing import Any

from torch import Tensor, nn

from ..layers.blocks import BasicBlock, Bottleneck, conv_unit, residual_layer
from ..layers.features import LAST, Features
from ..layers.head import PLAIN, Head, MapNetwork
from . import Architecture


class ResNet(MapNetwork):
    """Normalised images `(N, 3, H, W)` to heatmaps `(N, K, h, w)`; H and W are multiples of the layers' stride.

    Args:
        keypoints: K.
        blocks: residual blocks of each layer.
        block: their class.
        options: further arguments of every block.
        stem: channels of the stem.
        deep_stem: the stem is three 3x3 convolutions, not one of 7x7.
        planes: inner channels of the layers' blocks.
        strides: of the layers.
        features: which of the layers' outputs, from 0, the head reads.
        head: its layers.
    """

    def __init__(
        self,
        keypoints: int,
        blocks: Sequence[int],
        block: type[BasicBlock] | type[Bottleneck] = Bottleneck,
        options: Mapping[str, Any] | None = None,
        stem: int = 64,
        deep_stem: bool = False,
        planes: Sequence[int] = (64, 128, 256, 512),
        strides: Sequence[int] = (1, 2, 2, 2),
        features: Features = LAST,
        head: Head = PLAIN,
    ) -> None:
        super().__init__()
        if deep_stem:
            half = stem // 2
            self.stem = nn.Sequential(conv_unit(3, half, 3, 2), conv_unit(half, half, 3), conv_unit(half, stem, 3))
        else:
            self.conv1 = nn.Conv2d(3, stem, 7, stride=2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(stem)
            self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.deep_stem = deep_stem
        self.features = features.among(range(len(blocks)))
        self.strides = list(accumulate(strides, mul, initial=4))[1:]
        widths = []
        cin = stem
        for i, (count, inner, stride) in enumerate(zip(blocks, planes, strides, strict=True), 1):
            self.add_module(f"layer{i}", residual_layer(block, cin, inner, count, stride, **(options or {})))
            cin = inner * block.expansion
            widths.append(cin)
        self.layers = range(1, 2 + max(self.features.indices))
        self.add_head(features.width(widths), keypoints, head)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x) if self.deep_stem else self.relu(self.bn1(self.conv1(x)))
        x = self.maxpool(x)
        outputs = []
        for i in self.layers:
            x = self.get_submodule(f"layer{i}")(x)
            outputs.append(x)
        return self.maps(self.features.of(outputs, self.strides))


class PoseResNet(ResNet):
    """A ResNet of bottlenecks with three equal deconvolutions; maps are of `(H/4, W/4)`, H and W multiples of 32.

    Args:
        keypoints: K.
        blocks: bottlenecks of the four layers.
        caffe: put the stride of each layer on its first 1x1 convolution (`STYLE: caffe` of the original repository).
            The weights have the same names and shapes either way and the maps differ, so a checkpoint cannot tell:
            whoever trained it has to.
        stem: channels of the first convolution.
        planes: inner channels of the four layers' bottlenecks.
        deconv: channels of each of the three deconvolutions.
    """

    def __init__(
        self,
        keypoints: int,
        blocks: Sequence[int],
        caffe: bool = False,
        stem: int = 64,
        planes: Sequence[int] = (64, 128, 256, 512),
        deconv: int = 256,
    ) -> None:
        head = Head(deconv=((deconv, 4),) * 3)
        super().__init__(keypoints, blocks, options={"caffe": caffe}, stem=stem, planes=planes, head=head)


_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}

# Not published: small enough to train on one core, and nowhere wider or deeper than pose_resnet_50, so that its weights
# can be embedded there (see export/demo/embed.py).
_DEMO = partial(PoseResNet, blocks=(2, 2, 2, 2), stem=32, planes=(16, 32, 64, 128), deconv=64)

ARCHITECTURES = (
    *(
        Architecture(f"pose_resnet_{depth}{'_caffe' * caffe}", partial(PoseResNet, blocks=blocks, caffe=caffe))
        for caffe in (False, True)
        for depth, blocks in _BLOCKS.items()
    ),
    Architecture("pose_resnet_demo", _DEMO),
)
