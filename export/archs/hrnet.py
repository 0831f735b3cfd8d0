"""HRNet (Sun et al., "Deep High-Resolution Representation Learning for Human Pose Estimation", CVPR 2019).

state_dict keys are those of the original repository; MMPose's add a prefix (see layouts.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from ..layers.blocks import BasicBlock, Bottleneck, conv_bn, residual_layer
from ..layers.features import Features
from ..layers.head import PLAIN, Head, MapNetwork
from . import Architecture


@dataclass(frozen=True)
class Enlarge:
    """How the exchanges enlarge a map: the arguments of torch's Upsample."""

    mode: str = "nearest"
    align_corners: bool | None = None

    def by(self, factor: int) -> nn.Upsample:
        return nn.Upsample(scale_factor=factor, mode=self.mode, align_corners=self.align_corners)


@dataclass(frozen=True)
class Stage:
    """A stage: `modules` exchange modules of one branch per entry of `planes` and `blocks`.

    Branch i has `blocks[i]` residual blocks of `planes[i]` inner channels and 1/2**i of the resolution.
    """

    modules: int
    planes: Sequence[int]
    blocks: Sequence[int]
    block: type[BasicBlock] | type[Bottleneck] = BasicBlock

    @property
    def widths(self) -> list[int]:
        """Channels of the branches."""
        return [planes * self.block.expansion for planes in self.planes]


NEAREST, FIRST = Enlarge(), Features((0,))


class Exchange(nn.Module):
    """One HRNet module: parallel branches of residual blocks, then each of the first `outputs` sums all branches."""

    def __init__(self, stage: Stage, outputs: int, enlarge: Enlarge) -> None:
        super().__init__()
        widths = stage.widths
        self.branches = nn.ModuleList(
            residual_layer(stage.block, width, planes, blocks)
            for width, planes, blocks in zip(widths, stage.planes, stage.blocks, strict=True)
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_fuse(widths, i, j, enlarge) for j in range(len(widths))) for i in range(outputs)
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        xs = [branch(x) for branch, x in zip(self.branches, xs, strict=True)]
        fused = []
        for row in self.fuse_layers:
            assert isinstance(row, nn.ModuleList)
            # Start from the first term: summing onto 0, as other implementations do, leaves an Add in the graph.
            y = row[0](xs[0])
            for layer, x in zip(row[1:], xs[1:], strict=True):
                y = y + layer(x)
            fused.append(self.relu(y))
        return fused


def _fuse(widths: Sequence[int], i: int, j: int, enlarge: Enlarge) -> nn.Module:
    """Branch j brought to the resolution and width of branch i."""
    if j == i:
        return nn.Identity()
    if j > i:
        return nn.Sequential(
            nn.Conv2d(widths[j], widths[i], 1, bias=False), nn.BatchNorm2d(widths[i]), enlarge.by(2 ** (j - i))
        )
    steps = [conv_bn(widths[j], widths[j], 3, stride=2, relu=True) for _ in range(i - j - 1)]
    return nn.Sequential(*steps, conv_bn(widths[j], widths[i], 3, stride=2, relu=False))


def _transition(before: Sequence[int], after: Sequence[int]) -> nn.ModuleList:
    """Widen the branches where their channels change, and start the new one from the lowest resolution."""
    layers: list[nn.Module] = [
        nn.Identity() if b == a else conv_bn(b, a, 3, relu=True) for b, a in zip(before, after, strict=False)
    ]
    layers.append(nn.Sequential(conv_bn(before[-1], after[-1], 3, stride=2, relu=True)))
    return nn.ModuleList(layers)


class HighResolutionNet(MapNetwork):
    """Normalised images `(N, 3, H, W)` to heatmaps `(N, K, h, w)`; H and W are multiples of 32.

    Args:
        keypoints: K.
        layer1: the layer after the stem: its planes, blocks and class.
        stages: stages 2, 3 and 4, of as many branches.
        stem: channels of the stem.
        enlarge: how the exchanges enlarge.
        outputs: how many branches the last module gives out.
        features: which of these the head reads.
        head: its layers.
    """

    def __init__(
        self,
        keypoints: int,
        layer1: Stage,
        stages: Sequence[Stage],
        stem: int = 64,
        enlarge: Enlarge = NEAREST,
        outputs: int = 1,
        features: Features = FIRST,
        head: Head = PLAIN,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, stem, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.conv2 = nn.Conv2d(stem, stem, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = residual_layer(layer1.block, stem, layer1.planes[0], layer1.blocks[0])
        before = layer1.widths
        for number, stage in zip((2, 3, 4), stages, strict=True):
            self.add_module(f"transition{number - 1}", _transition(before, stage.widths))
            given_out = [number] * stage.modules
            if number == 4:
                given_out[-1] = outputs
            self.add_module(f"stage{number}", nn.Sequential(*(Exchange(stage, n, enlarge) for n in given_out)))
            before = stage.widths
        self.features = features
        self.strides = [4 * 2**i for i in range(outputs)]
        self.add_head(features.width(before[:outputs]), keypoints, head)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        xs = [self.layer1(x)]
        for stage in (2, 3, 4):
            transition = self.get_submodule(f"transition{stage - 1}")
            assert isinstance(transition, nn.ModuleList)
            xs = [layer(xs[min(i, len(xs) - 1)]) for i, layer in enumerate(transition)]
            xs = self.get_submodule(f"stage{stage}")(xs)
        return self.maps(self.features.of(xs, self.strides))


class HRNet(HighResolutionNet):
    """The published form: maps of `(H/4, W/4)` from the branch of the highest resolution alone.

    Args:
        keypoints: K.
        widths: channels of the four branches, highest resolution first.
        modules: exchange modules in stages 2, 3 and 4.
        blocks: residual blocks per branch and module.
        stem: channels of the stem.
        bottlenecks: blocks of layer1, each 4 * `planes` channels wide.
        planes: inner channels of layer1's bottlenecks.
    """

    def __init__(
        self,
        keypoints: int,
        widths: Sequence[int],
        modules: Sequence[int] = (1, 4, 3),
        blocks: int = 4,
        stem: int = 64,
        bottlenecks: int = 4,
        planes: int = 64,
    ) -> None:
        layer1 = Stage(1, (planes,), (bottlenecks,), Bottleneck)
        stages = [Stage(m, widths[:n], (blocks,) * n) for n, m in zip((2, 3, 4), modules, strict=True)]
        super().__init__(keypoints, layer1, stages, stem)


# Not published: small enough to train on one core, and nowhere wider or deeper than the published two, so that its
# weights can be embedded in them (see export/demo/embed.py).
_DEMO = partial(HRNet, widths=(32, 48, 96, 160), modules=(1, 1, 1), blocks=1, stem=32, bottlenecks=2, planes=16)

ARCHITECTURES = (
    Architecture("hrnet_w32", partial(HRNet, widths=(32, 64, 128, 256))),
    Architecture("hrnet_w48", partial(HRNet, widths=(48, 96, 192, 384))),
    Architecture("hrnet_demo", _DEMO),
)
