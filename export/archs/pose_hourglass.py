"""Stacked hourglass in the form of YibinXie/Pose_Estimation, with four residual blocks where Newell et al. have one.

state_dict keys are those of that repository.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from . import Architecture

_LEVELS = 4


class Bottleneck(nn.Module):
    """Batch-norm, ReLU, convolution, three times; convolutions have a bias, and so has the bare 1x1 shortcut."""

    def __init__(self, cin: int, mid: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(cin)
        self.conv1 = nn.Conv2d(cin, mid, 1)
        self.bn2 = nn.BatchNorm2d(mid)
        self.conv2 = nn.Conv2d(mid, mid, 3, padding=1)
        self.bn3 = nn.BatchNorm2d(mid)
        self.conv3 = nn.Conv2d(mid, 2 * mid, 1)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Sequential(nn.Conv2d(cin, 2 * mid, 1)) if cin != 2 * mid else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(self.relu(self.bn1(x)))
        y = self.conv2(self.relu(self.bn2(y)))
        y = self.conv3(self.relu(self.bn3(y)))
        return y + (x if self.downsample is None else self.downsample(x))


def _layer(cin: int, mid: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(Bottleneck(cin, mid), *(Bottleneck(2 * mid, mid) for _ in range(blocks - 1)))


class Hourglass(nn.Module):
    """Four levels; `hourglass.0` is the innermost one and alone has a fourth layer, the bottom."""

    def __init__(self, mid: int, blocks: int) -> None:
        super().__init__()
        self.hourglass = nn.ModuleList(
            nn.ModuleList(_layer(2 * mid, mid, blocks) for _ in range(4 if level == 0 else 3))
            for level in range(_LEVELS)
        )
        self.pool = nn.MaxPool2d(2, stride=2)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, x: Tensor) -> Tensor:
        return self._level(_LEVELS - 1, x)

    def _level(self, level: int, x: Tensor) -> Tensor:
        layers = self.hourglass[level]
        assert isinstance(layers, nn.ModuleList)
        low = layers[1](self.pool(x))
        low = self._level(level - 1, low) if level else layers[3](low)
        return layers[0](x) + self.up(layers[2](low))


class PoseHourglass(nn.Module):
    """Normalised images `(N, 3, H, W)` to heatmaps `(N, K, H/4, W/4)` of the last stack; sizes are multiples of 64.

    A stage is a stack. It has `blocks` residual blocks wherever that of Newell et al. has one; `mid` is the number of
    inner channels of their bottlenecks, half of the stack's width.
    """

    def __init__(
        self, keypoints: int, stages: int, run_stages: int | None = None, blocks: int = 4, mid: int = 128
    ) -> None:
        super().__init__()
        self.run_stages = run_stages or stages
        width = 2 * mid
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(2, stride=2)
        self.layer1 = _layer(64, 64, 1)
        self.layer2 = _layer(128, 128, 1)
        self.layer3 = _layer(256, mid, 1)
        self.hg = nn.ModuleList(Hourglass(mid, blocks) for _ in range(stages))
        self.res = nn.ModuleList(_layer(width, mid, blocks) for _ in range(stages))
        self.fc = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
            for _ in range(stages)
        )
        self.score = nn.ModuleList(nn.Conv2d(width, keypoints, 1) for _ in range(stages))
        self.fc_ = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(stages - 1))
        self.score_ = nn.ModuleList(nn.Conv2d(keypoints, width, 1) for _ in range(stages - 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.layer1(self.relu(self.bn1(self.conv1(x)))))
        x = self.layer3(self.layer2(x))
        last = self.run_stages - 1
        for i in range(last):
            y = self.fc[i](self.res[i](self.hg[i](x)))
            x = x + self.fc_[i](y) + self.score_[i](self.score[i](y))
        return self.score[last](self.fc[last](self.res[last](self.hg[last](x))))


ARCHITECTURES = (Architecture("pose_hourglass_2", partial(PoseHourglass, stages=2), stages=2),)
