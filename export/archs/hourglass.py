"""Hourglass-52, the backbone of CornerNet (Law and Deng, ECCV 2018), with MMPose's head; one stack is published.

It is not the stacked hourglass of Newell et al.: residual blocks are plain ones, strides take the place of pooling and
the channels grow towards the bottom. state_dict keys are MMPose's without their `backbone.` and `keypoint_head.`.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..layers.blocks import BasicBlock, conv_unit, residual_layer
from ..layers.head import PLAIN, Head, deconvolutions, final_layer
from . import Architecture


class Hourglass(nn.Module):
    """One level: a branch at full resolution plus one that goes down, through the next level, and up again.

    `widths` and `blocks` are the channels and residual blocks of this level and of all below it.
    """

    def __init__(self, widths: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        here, below = widths[:2]
        self.up1 = residual_layer(BasicBlock, here, here, blocks[0])
        self.low1 = residual_layer(BasicBlock, here, below, blocks[0], stride=2)
        self.low2 = (
            Hourglass(widths[1:], blocks[1:])
            if len(widths) > 2
            else residual_layer(BasicBlock, below, below, blocks[1])
        )
        # On the way up the last block changes the channels, not the first.
        self.low3 = nn.Sequential(*(BasicBlock(below, below) for _ in range(blocks[0] - 1)), BasicBlock(below, here))
        self.up2 = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, x: Tensor) -> Tensor:
        return self.up1(x) + self.up2(self.low3(self.low2(self.low1(x))))


class HourglassNet(nn.Module):
    """Normalised images `(N, 3, H, W)` to heatmaps `(N, K, H/4, W/4)` of the last stack; sizes are multiples of 128.

    Args:
        keypoints: K.
        widths, blocks: channels and residual blocks of the levels, highest resolution first.
        stacks: hourglasses one after the other.
        features: channels after each hourglass.
        head: layers of each stack's head; only its deconvolutions and its last layer are used.
    """

    def __init__(
        self,
        keypoints: int,
        widths: Sequence[int] = (256, 256, 384, 384, 384, 512),
        blocks: Sequence[int] = (2, 2, 2, 2, 2, 4),
        stacks: int = 1,
        features: int | None = None,
        head: Head = PLAIN,
    ) -> None:
        super().__init__()
        width, features = widths[0], features or widths[0]
        between = range(stacks - 1)
        self.stem = nn.Sequential(conv_unit(3, 128, 7, stride=2), residual_layer(BasicBlock, 128, width, 1, stride=2))
        self.hourglass_modules = nn.ModuleList(Hourglass(widths, blocks) for _ in range(stacks))
        # With one stack, published checkpoints carry a block that would feed a second one; nothing ever reads it.
        self.inters = nn.ModuleList(BasicBlock(width, width) for _ in range(max(1, stacks - 1)))
        self.conv1x1s = nn.ModuleList(conv_unit(width, width, 1, relu=False) for _ in between)
        self.out_convs = nn.ModuleList(conv_unit(width, features, 3) for _ in range(stacks))
        self.remap_convs = nn.ModuleList(conv_unit(features, width, 1, relu=False) for _ in between)
        self.relu = nn.ReLU(inplace=True)
        self.multi_deconv_layers = nn.ModuleList(deconvolutions(features, head.deconv) for _ in range(stacks))
        self.multi_final_layers = nn.ModuleList(
            final_layer(head.width(features), keypoints, head.final) for _ in range(stacks)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for i in range(len(self.conv1x1s)):
            y = self.out_convs[i](self.hourglass_modules[i](x))
            x = self.inters[i](self.relu(self.conv1x1s[i](x) + self.remap_convs[i](y)))
        y = self.multi_deconv_layers[-1](self.out_convs[-1](self.hourglass_modules[-1](x)))
        return self.multi_final_layers[-1](y)


ARCHITECTURES = (Architecture("hourglass_52", HourglassNet),)
