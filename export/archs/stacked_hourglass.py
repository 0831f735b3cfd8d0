"""Stacked hourglass (Newell et al., "Stacked Hourglass Networks for Human Pose Estimation", ECCV 2016).

state_dict keys are those of Princeton's PyTorch repository, which takes pictures (N, H, W, 3); here they are
(N, 3, H, W) as everywhere.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from torch import Tensor, nn

from ..layers.blocks import conv_unit
from . import Architecture


class Residual(nn.Module):
    """Batch-norm, ReLU, convolution, three times; convolutions have a bias."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        mid = cout // 2
        self.relu = nn.ReLU(inplace=True)
        self.bn1 = nn.BatchNorm2d(cin)
        self.conv1 = _conv(cin, mid, 1)
        self.bn2 = nn.BatchNorm2d(mid)
        self.conv2 = _conv(mid, mid, 3)
        self.bn3 = nn.BatchNorm2d(mid)
        self.conv3 = _conv(mid, cout, 1)
        # Checkpoints carry it everywhere; it is read only where the channels change.
        self.skip_layer = _conv(cin, cout, 1)
        self.needs_skip = cin != cout

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(self.relu(self.bn1(x)))
        y = self.conv2(self.relu(self.bn2(y)))
        y = self.conv3(self.relu(self.bn3(y)))
        return y + (self.skip_layer(x) if self.needs_skip else x)


class Hourglass(nn.Module):
    """One of `depth` levels: a branch at full resolution plus one that is pooled, passed down and enlarged again."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.up1 = Residual(width, width)
        self.pool1 = nn.MaxPool2d(2, stride=2)
        self.low1 = Residual(width, width)
        self.low2 = Hourglass(depth - 1, width) if depth > 1 else Residual(width, width)
        self.low3 = Residual(width, width)
        self.up2 = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, x: Tensor) -> Tensor:
        return self.up1(x) + self.up2(self.low3(self.low2(self.low1(self.pool1(x)))))


class StackedHourglass(nn.Module):
    """Images `(N, 3, H, W)` RGB in 0..1 to heatmaps `(N, K, H/4, W/4)` of the last stack; sizes are multiples of 64.

    A stage is a stack, with `width` channels.
    """

    def __init__(self, keypoints: int, stages: int, run_stages: int | None = None, width: int = 256) -> None:
        super().__init__()
        self.run_stages = run_stages or stages
        self.pre = nn.Sequential(
            conv_unit(3, 64, 7, stride=2, bias=True),
            Residual(64, 128),
            nn.MaxPool2d(2, stride=2),
            Residual(128, 128),
            Residual(128, width),
        )
        self.hgs = nn.ModuleList(nn.Sequential(Hourglass(4, width)) for _ in range(stages))
        self.features = nn.ModuleList(
            nn.Sequential(Residual(width, width), conv_unit(width, width, 1, bias=True)) for _ in range(stages)
        )
        self.outs = nn.ModuleList(_conv(width, keypoints, 1) for _ in range(stages))
        self.merge_features = nn.ModuleList(_merge(width, width) for _ in range(stages - 1))
        self.merge_preds = nn.ModuleList(_merge(keypoints, width) for _ in range(stages - 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.pre(x)
        last = self.run_stages - 1
        for i in range(last):
            feature = self.features[i](self.hgs[i](x))
            x = x + self.merge_preds[i](self.outs[i](feature)) + self.merge_features[i](feature)
        return self.outs[last](self.features[last](self.hgs[last](x)))


def _conv(cin: int, cout: int, kernel: int) -> nn.Sequential:
    return conv_unit(cin, cout, kernel, norm=False, relu=False, bias=True)


def _merge(cin: int, cout: int) -> nn.Sequential:
    """A 1x1 convolution that brings a result back to the width of the next stack's input."""
    return nn.Sequential(OrderedDict(conv=_conv(cin, cout, 1)))


ARCHITECTURES = tuple(
    Architecture(f"hourglass_{stages}", partial(StackedHourglass, stages=stages), stages=stages) for stages in (2, 8)
)
