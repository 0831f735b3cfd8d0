"""MSPN (Li et al., "Rethinking on Multi-Stage Networks for Human Pose Estimation", arXiv 1901.00148) on ResNet-50.

state_dict keys are MMPose's without their `backbone.` and `keypoint_head.`; Megvii's are mapped in layouts.py.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from ..layers.blocks import Bottleneck, conv_unit, residual_layer
from . import Architecture

_BLOCKS = (3, 4, 6, 3)


class Down(nn.Module):
    """A ResNet without its stem. From the second stage on, the stage before adds to the end of every layer."""

    def __init__(self, blocks_of_layers: Sequence[int]) -> None:
        super().__init__()
        cin = 64
        for i, blocks in enumerate(blocks_of_layers, 1):
            width = 128 * 2**i
            layer = residual_layer(Bottleneck, cin, width // 4, blocks, stride=1 if i == 1 else 2)
            layer[0].downsample = conv_unit(cin, width, 1, stride=1 if i == 1 else 2, relu=False)
            self.add_module(f"layer{i}", layer)
            cin = width

    def forward(self, x: Tensor, skips: list[Tensor]) -> list[Tensor]:
        """Features of 1/4, 1/8, 1/16, ... resolution; `skips` are as many of the same shapes, or none."""
        features = []
        for i, layer in enumerate(self.children()):
            x = layer(x)
            if skips:
                x = x + skips[i]
            features.append(x)
        return features


class UpUnit(nn.Module):
    """One level on the way up: the feature of this resolution plus, enlarged, what comes from below.

    Where `feeds_next`, it hands a feature to the next stage; where `cross`, the next stage's input as well.
    """

    def __init__(self, cin: int, cout: int, deepest: bool, feeds_next: bool, cross: bool) -> None:
        super().__init__()
        self.in_skip = conv_unit(cin, cout, 1, relu=False)
        self.relu = nn.ReLU(inplace=True)
        if not deepest:
            self.up_conv = conv_unit(cout, cout, 1, relu=False)
            self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        if feeds_next:
            self.out_skip1 = conv_unit(cin, cin, 1)
            self.out_skip2 = conv_unit(cout, cin, 1)
        if cross:
            self.cross_conv = conv_unit(cout, 64, 1)

    def forward(self, feature: Tensor, below: Tensor | None) -> Tensor:
        y = self.in_skip(feature)
        if below is not None:
            y = y + self.up_conv(self.up(below))
        return self.relu(y)

    def skip(self, feature: Tensor, y: Tensor) -> Tensor:
        """What the next stage adds at this resolution."""
        return self.out_skip1(feature) + self.out_skip2(y)


class Stage(nn.Module):
    """A U-shaped stage; `feeds_next` for all but the last of the network."""

    def __init__(self, width: int, feeds_next: bool, blocks: Sequence[int] = _BLOCKS) -> None:
        super().__init__()
        self.downsample = Down(blocks)
        last = len(blocks)
        self.upsample = nn.ModuleDict(
            {
                f"up{i}": UpUnit(
                    256 * 2 ** (last - i), width, deepest=i == 1, feeds_next=feeds_next, cross=feeds_next and i == last
                )
                for i in range(1, last + 1)
            }
        )

    def forward(self, x: Tensor, skips: list[Tensor], hand_on: bool) -> tuple[Tensor, list[Tensor], Tensor]:
        """The map feature, and where `hand_on` the skips and the input of the next stage."""
        features = self.downsample(x, skips)
        y: Tensor | None = None
        skips = []
        for unit, feature in zip(self.upsample.values(), reversed(features), strict=True):
            assert isinstance(unit, UpUnit)
            y = unit(feature, y)
            if hand_on:
                skips.insert(0, unit.skip(feature, y))
        assert y is not None
        return y, skips, unit.get_submodule("cross_conv")(y) if hand_on else y


def _predict(width: int, keypoints: int) -> nn.Sequential:
    """The map of one level. It ends in a batch-norm: there is no bias and no ReLU."""
    layers = nn.Sequential(conv_unit(width, width, 1), conv_unit(width, keypoints, 3, relu=False))
    return nn.Sequential(OrderedDict(conv_layers=layers))


class MSPN(nn.Module):
    """Normalised images `(N, 3, H, W)` to heatmaps `(N, K, H/4, W/4)` that peak at 255; H and W are multiples of 32.

    The output is the shallowest level's map of the last stage; the other maps serve training and are not computed.
    The sources resize it to 64x48 at last, which for a 256x192 input is what it has.

    Args:
        keypoints: K.
        stages: how many there are.
        run_stages: the stage to stop after; None: the last.
        width: channels on the way up.
        blocks: bottlenecks of each level of a stage, highest resolution first.
        map_size: height and width to which the map is resized where it has others.
    """

    def __init__(
        self,
        keypoints: int,
        stages: int,
        run_stages: int | None = None,
        width: int = 256,
        blocks: Sequence[int] = _BLOCKS,
        map_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.run_stages = run_stages or stages
        self.levels, self.map_size = len(blocks), map_size
        stem = nn.Sequential(conv_unit(3, 64, 7, stride=2), nn.MaxPool2d(3, stride=2, padding=1))
        self.top = nn.Sequential(OrderedDict(top=stem))
        self.multi_stage_mspn = nn.ModuleList(Stage(width, i < stages - 1, blocks) for i in range(stages))
        self.predict_layers = nn.ModuleList(_predict(width, keypoints) for _ in range(self.levels * stages))

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        x = self.top(x)
        for i, stage in enumerate(self.multi_stage_mspn[: self.run_stages], 1):
            y, skips, x = stage(x, skips, hand_on=i < self.run_stages)
        y = self.predict_layers[self.levels * self.run_stages - 1](y)
        if self.map_size is None or y.shape[2:] == self.map_size:
            return y
        return F.interpolate(y, size=self.map_size, mode="bilinear", align_corners=True)


ARCHITECTURES = tuple(
    Architecture(f"mspn_50_{stages}", partial(MSPN, stages=stages), stages=stages) for stages in (1, 2, 3, 4)
)
