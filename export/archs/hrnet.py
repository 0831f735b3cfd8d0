"""HRNet (Sun et al., "Deep High-Resolution Representation Learning for Human Pose Estimation", CVPR 2019).

state_dict keys are those of the original repository; MMPose's add a prefix (see checkpoint.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from . import Architecture
from ._blocks import BasicBlock, Bottleneck, conv_bn, residual_layer


class Exchange(nn.Module):
    """One HRNet module: parallel branches of residual blocks, then every output sums all branches.

    Branch i has `widths[i]` channels and 1/2**i of the resolution. The last module of the network has one output.
    """

    def __init__(self, widths: Sequence[int], blocks: int, outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(w, w) for _ in range(blocks))) for w in widths)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_fuse(widths, i, j) for j in range(len(widths))) for i in range(outputs)
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


def _fuse(widths: Sequence[int], i: int, j: int) -> nn.Module:
    """Branch j brought to the resolution and width of branch i."""
    if j == i:
        return nn.Identity()
    if j > i:
        return nn.Sequential(
            nn.Conv2d(widths[j], widths[i], 1, bias=False),
            nn.BatchNorm2d(widths[i]),
            nn.Upsample(scale_factor=2 ** (j - i), mode="nearest"),
        )
    steps = [conv_bn(widths[j], widths[j], 3, stride=2, relu=True) for _ in range(i - j - 1)]
    return nn.Sequential(*steps, conv_bn(widths[j], widths[i], 3, stride=2, relu=False))


def _transition(before: Sequence[int], after: Sequence[int], first: bool) -> nn.ModuleList:
    """Widen the branches that exist (only after layer1) and start the new one from the lowest resolution."""
    layers: list[nn.Module] = [
        conv_bn(b, a, 3, relu=True) if first else nn.Identity() for b, a in zip(before, after, strict=False)
    ]
    layers.append(nn.Sequential(conv_bn(before[-1], after[-1], 3, stride=2, relu=True)))
    return nn.ModuleList(layers)


class HRNet(nn.Module):
    """Normalised images `(N, 3, H, W)` to heatmaps `(N, K, H/4, W/4)`; H and W are multiples of 32.

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
        super().__init__()
        self.conv1 = nn.Conv2d(3, stem, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.conv2 = nn.Conv2d(stem, stem, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = residual_layer(Bottleneck, stem, planes, bottlenecks)
        before: Sequence[int] = [4 * planes]
        for stage, count in zip((2, 3, 4), modules, strict=True):
            after = widths[:stage]
            self.add_module(f"transition{stage - 1}", _transition(before, after, first=stage == 2))
            outputs = [1 if stage == 4 and m == count - 1 else stage for m in range(count)]
            self.add_module(f"stage{stage}", nn.Sequential(*(Exchange(after, blocks, n) for n in outputs)))
            before = after
        self.final_layer = nn.Conv2d(widths[0], keypoints, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        xs = [self.layer1(x)]
        for stage in (2, 3, 4):
            transition = self.get_submodule(f"transition{stage - 1}")
            assert isinstance(transition, nn.ModuleList)
            xs = [layer(xs[min(i, len(xs) - 1)]) for i, layer in enumerate(transition)]
            xs = self.get_submodule(f"stage{stage}")(xs)
        heatmaps: Tensor = self.final_layer(xs[0])
        return heatmaps


# Not published: small enough to train on one core, and nowhere wider or deeper than the published two, so that its
# weights can be embedded in them (see export/demo/embed.py).
_DEMO = partial(HRNet, widths=(32, 48, 96, 160), modules=(1, 1, 1), blocks=1, stem=32, bottlenecks=2, planes=16)

ARCHITECTURES = (
    Architecture("hrnet_w32", partial(HRNet, widths=(32, 64, 128, 256))),
    Architecture("hrnet_w48", partial(HRNet, widths=(48, 96, 192, 384))),
    Architecture("hrnet_demo", _DEMO),
)
