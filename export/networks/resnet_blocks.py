"""Residual blocks of ResNet's relatives, with the key names of MMPose."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers.blocks import Bottleneck, conv_bn, conv_unit


class SEBottleneck(Bottleneck):
    """With squeeze and excitation (Hu et al., CVPR 2018): channels weighted by what their means say."""

    def __init__(
        self, cin: int, planes: int, stride: int = 1, *, ratio: int, caffe: bool = False, avg_down: bool = False
    ) -> None:
        super().__init__(cin, planes, stride, caffe=caffe, avg_down=avg_down)
        cout = planes * self.expansion
        self.se_layer = nn.ModuleDict(
            {
                "conv1": conv_unit(cout, cout // ratio, 1, norm=False, bias=True),
                "conv2": conv_unit(cout // ratio, cout, 1, norm=False, relu=False, bias=True),
            }
        )

    def residual(self, x: Tensor) -> Tensor:
        y = super().residual(x)
        weight = self.se_layer["conv2"](self.se_layer["conv1"](F.adaptive_avg_pool2d(y, 1)))
        return y * torch.sigmoid(weight)


class GroupedBottleneck(Bottleneck):
    """With a 3x3 convolution in groups (ResNeXt: Xie et al., CVPR 2017).

    The network's first layer has `per_group` channels in each of them where its inner channels are `base`, the others
    as many more as they are wider.
    """

    def __init__(
        self,
        cin: int,
        planes: int,
        stride: int = 1,
        *,
        groups: int,
        per_group: int,
        base: int,
        caffe: bool = False,
        avg_down: bool = False,
    ) -> None:
        width = inner_width(planes, groups, per_group, base)
        super().__init__(cin, planes, stride, caffe=caffe, avg_down=avg_down, groups=groups, width=width)


def inner_width(planes: int, groups: int, per_group: int, base: int) -> int:
    """Channels of the 3x3 convolution; with one group `per_group` does not count."""
    return planes if groups == 1 else groups * per_group * planes // base


class SplitAttention(nn.Module):
    """A 3x3 convolution whose output is `radix` maps, summed with weights that their means give (ResNeSt)."""

    def __init__(self, width: int, stride: int, groups: int, radix: int, reduction: int) -> None:
        super().__init__()
        squeezed = max(width * radix // reduction, 32)
        self.radix, self.groups = radix, groups
        self.conv = nn.Conv2d(width, width * radix, 3, stride, 1, groups=groups * radix, bias=False)
        self.bn0 = nn.BatchNorm2d(width * radix)
        self.relu = nn.ReLU(inplace=True)
        self.fc1 = nn.Conv2d(width, squeezed, 1, groups=groups)
        self.bn1 = nn.BatchNorm2d(squeezed)
        self.fc2 = nn.Conv2d(squeezed, width * radix, 1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn0(self.conv(x)))
        maps = x.unflatten(1, (self.radix, -1))
        means = F.adaptive_avg_pool2d(maps.sum(1), 1)
        weight = self.fc2(self.relu(self.bn1(self.fc1(means))))
        if self.radix == 1:
            return x * torch.sigmoid(weight)
        # Channels are in the order group, map of the radix, channel.
        weight = weight.flatten(1).unflatten(1, (self.groups, self.radix, -1)).softmax(2).transpose(1, 2)
        return (maps * weight.flatten(2)[..., None, None]).sum(1)


class SplitAttentionBottleneck(Bottleneck):
    """ResNeSt's (Zhang et al., CVPR workshops 2022): split attention; with `pool` the stride is average pooling."""

    def __init__(
        self,
        cin: int,
        planes: int,
        stride: int = 1,
        *,
        groups: int,
        per_group: int,
        base: int,
        radix: int,
        reduction: int,
        pool: bool,
        caffe: bool = False,
        avg_down: bool = False,
    ) -> None:
        width = inner_width(planes, groups, per_group, base)
        super().__init__(cin, planes, stride, caffe=caffe, avg_down=avg_down, width=width)
        stride = 1 if caffe else stride
        pooled = pool and stride > 1
        self.conv2 = SplitAttention(width, 1 if pooled else stride, groups, radix, reduction)
        self.bn2 = nn.Identity()
        self.pool = nn.AvgPool2d(3, stride, padding=1) if pooled else nn.Identity()

    def residual(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        return self.bn3(self.conv3(self.pool(self.conv2(y))))


class SelfCalibratedConv(nn.Module):
    """A convolution that a pooled view of its input weights (SCNet)."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.k2 = nn.Sequential(nn.AvgPool2d(4, 4), *conv_bn(width, width, 3, relu=False))
        self.k3 = conv_bn(width, width, 3, relu=False)
        self.k4 = conv_bn(width, width, 3, stride, relu=True)

    def forward(self, x: Tensor) -> Tensor:
        # To a size, not by a factor: pooling leaves out what four does not divide.
        view = F.interpolate(self.k2(x), x.shape[2:])
        return self.k4(self.k3(x) * torch.sigmoid(x + view))


class SCBottleneck(Bottleneck):
    """SCNet's (Liu et al., CVPR 2020): half of the inner channels plain, the others self-calibrated."""

    def __init__(self, cin: int, planes: int, stride: int = 1, *, avg_down: bool = False) -> None:
        super().__init__(cin, planes, stride, avg_down=avg_down)
        half = planes // 2
        self.conv1 = nn.Conv2d(cin, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.k1 = conv_bn(half, half, 3, stride, relu=True)
        self.conv2 = nn.Conv2d(cin, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.scconv = SelfCalibratedConv(half, stride)
        self.conv3 = nn.Conv2d(2 * half, planes * self.expansion, 1, bias=False)

    def residual(self, x: Tensor) -> Tensor:
        plain = self.k1(self.relu(self.bn1(self.conv1(x))))
        calibrated = self.scconv(self.relu(self.bn2(self.conv2(x))))
        return self.bn3(self.conv3(torch.cat([plain, calibrated], 1)))
