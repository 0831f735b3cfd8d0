"""Layers that several families share, with the key names that their published checkpoints use."""

from __future__ import annotations

from collections import OrderedDict

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

    def __init__(self, cin: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(cin, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(cin, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut; the stride is on the 3x3 (torchvision's ResNet, not caffe's)."""

    expansion = 4

    def __init__(self, cin: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        cout = planes * self.expansion
        self.conv1 = nn.Conv2d(cin, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, cout, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(cout)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(cin, cout, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class CaffeBottleneck(Bottleneck):
    """The same weights with the stride on the first 1x1 convolution, as in the first ResNets trained with Caffe."""

    def __init__(self, cin: int, planes: int, stride: int = 1) -> None:
        super().__init__(cin, planes, stride)
        self.conv1.stride, self.conv2.stride = self.conv2.stride, self.conv1.stride


def shortcut(cin: int, cout: int, stride: int) -> nn.Sequential | None:
    """The projection of a residual block, where the shapes differ."""
    return None if cin == cout and stride == 1 else conv_bn(cin, cout, 1, stride, relu=False)


def residual_layer(
    block: type[BasicBlock] | type[Bottleneck], cin: int, planes: int, blocks: int, stride: int = 1
) -> nn.Sequential:
    """A ResNet layer: the first block changes width and resolution, the others keep them."""
    cout = planes * block.expansion
    return nn.Sequential(block(cin, planes, stride), *(block(cout, planes) for _ in range(blocks - 1)))
