"""Convolution units and residual blocks."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import Tensor, nn


def conv_bn(cin: int, cout: int, kernel: int, stride: int = 1, *, relu: bool) -> nn.Sequential:
    """Convolution (same padding, no bias), batch-norm and, if asked, ReLU: keys 0.* and 1.*."""
    return nn.Sequential(*conv_unit(cin, cout, kernel, stride, relu=relu))


def conv_unit(
    cin: int, cout: int, kernel: int, stride: int = 1, *, norm: bool = True, relu: bool = True, bias: bool = False
) -> nn.Sequential:
    """The same with the keys conv.* and bn.*; `norm` and `bias` say whether there is a batch-norm and a bias."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=bias)
    if norm:
        layers["bn"] = nn.BatchNorm2d(cout)
    if relu:
        layers["relu"] = nn.ReLU(inplace=True)
    return nn.Sequential(layers)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al., CVPR 2016)."""

    expansion = 1

    def __init__(self, cin: int, planes: int, stride: int = 1, *, avg_down: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(cin, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(cin, planes, stride, avg_down)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut.

    Args:
        cin: channels of the input; the output has 4 * `planes`.
        planes: inner channels.
        stride: of the 3x3 convolution, as in torchvision's ResNet.
        caffe: the stride is on the first 1x1 convolution, as in the first ResNets trained with Caffe. The weights have
            the same names and shapes either way.
        avg_down: see `shortcut`.
        groups, width: groups and channels of the 3x3 convolution, where it has not one and `planes`.
    """

    expansion = 4

    def __init__(
        self,
        cin: int,
        planes: int,
        stride: int = 1,
        *,
        caffe: bool = False,
        avg_down: bool = False,
        groups: int = 1,
        width: int | None = None,
    ) -> None:
        super().__init__()
        cout, inner = planes * self.expansion, width or planes
        first, second = (stride, 1) if caffe else (1, stride)
        self.conv1 = nn.Conv2d(cin, inner, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2: nn.Module = nn.Conv2d(inner, inner, 3, second, 1, groups=groups, bias=False)
        self.bn2: nn.Module = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, cout, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(cout)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(cin, cout, stride, avg_down)

    def residual(self, x: Tensor) -> Tensor:
        """What is added to the shortcut."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.bn3(self.conv3(y))

    def forward(self, x: Tensor) -> Tensor:
        y = self.residual(x)
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


def shortcut(cin: int, cout: int, stride: int, avg_down: bool = False) -> nn.Sequential | None:
    """The projection of a residual block, where the shapes differ; with `avg_down` average pooling halves the size."""
    if cin == cout and stride == 1:
        return None
    if avg_down and stride > 1:
        pool = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
        return nn.Sequential(pool, *conv_bn(cin, cout, 1, relu=False))
    return conv_bn(cin, cout, 1, stride, relu=False)


def residual_layer(
    block: type[BasicBlock] | type[Bottleneck], cin: int, planes: int, blocks: int, stride: int = 1, **options: Any
) -> nn.Sequential:
    """A ResNet layer: the first block changes width and resolution, the others keep them.

    `options` are further arguments of every block.
    """
    cout = planes * block.expansion
    first = block(cin, planes, stride, **options)
    return nn.Sequential(first, *(block(cout, planes, **options) for _ in range(blocks - 1)))
