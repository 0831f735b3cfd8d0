"""Hourglass-52 with one stack, the backbone of CornerNet (Law and Deng, ECCV 2018), with MMPose's head.

It is not the stacked hourglass of Newell et al.: residual blocks are plain ones, strides take the place of pooling and
the channels grow towards the bottom. state_dict keys are MMPose's without their `backbone.` and `keypoint_head.`.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from . import Architecture
from ._blocks import BasicBlock, conv_unit, residual_layer


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
    """Normalised images `(N, 3, H, W)` to heatmaps `(N, K, H/4, W/4)`; H and W are multiples of 128.

    `widths` and `blocks` are the channels and residual blocks of the levels, highest resolution first.
    """

    def __init__(
        self,
        keypoints: int,
        widths: Sequence[int] = (256, 256, 384, 384, 384, 512),
        blocks: Sequence[int] = (2, 2, 2, 2, 2, 4),
    ) -> None:
        super().__init__()
        width = widths[0]
        self.stem = nn.Sequential(conv_unit(3, 128, 7, stride=2), residual_layer(BasicBlock, 128, width, 1, stride=2))
        self.hourglass_modules = nn.ModuleList([Hourglass(widths, blocks)])
        # Published checkpoints carry a block that would feed a second stack; with one stack nothing ever reads it.
        self.inters = nn.ModuleList([BasicBlock(width, width)])
        self.out_convs = nn.ModuleList([conv_unit(width, width, 3)])
        self.multi_final_layers = nn.ModuleList([nn.Conv2d(width, keypoints, 1)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.hourglass_modules[0](self.stem(x))
        return self.multi_final_layers[0](self.out_convs[0](x))


ARCHITECTURES = (Architecture("hourglass_52", HourglassNet),)
