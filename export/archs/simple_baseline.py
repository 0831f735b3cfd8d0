"""SimpleBaseline pose_resnet (Xiao et al., "Simple Baselines for Human Pose Estimation and Tracking", ECCV 2018).

A ResNet, three deconvolutions and a 1x1 convolution. state_dict keys are those of the original repository; MMPose's add
a prefix (see checkpoint.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from . import Architecture
from ._blocks import Bottleneck, CaffeBottleneck, residual_layer


class PoseResNet(nn.Module):
    """Normalised images `(N, 3, H, W)` to heatmaps `(N, K, H/4, W/4)`; H and W are multiples of 32.

    Args:
        keypoints: K.
        blocks: bottlenecks of the four layers.
        caffe: put the stride of each layer on its first 1x1 convolution (`STYLE: caffe` of the original repository).
            The weights have the same names and shapes either way and the maps differ, so a checkpoint cannot tell:
            whoever trained it has to.
        stem: channels of the first convolution.
        planes: inner channels of the four layers' bottlenecks.
        deconv: channels of each of the three deconvolutions.
    """

    def __init__(
        self,
        keypoints: int,
        blocks: Sequence[int],
        caffe: bool = False,
        stem: int = 64,
        planes: Sequence[int] = (64, 128, 256, 512),
        deconv: int = 256,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, stem, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        block = CaffeBottleneck if caffe else Bottleneck
        inner, wide = planes, [p * block.expansion for p in planes]
        self.layer1 = residual_layer(block, stem, inner[0], blocks[0])
        self.layer2 = residual_layer(block, wide[0], inner[1], blocks[1], stride=2)
        self.layer3 = residual_layer(block, wide[1], inner[2], blocks[2], stride=2)
        self.layer4 = residual_layer(block, wide[2], inner[3], blocks[3], stride=2)
        layers: list[nn.Module] = []
        for cin in (wide[3], deconv, deconv):
            enlarge = nn.ConvTranspose2d(cin, deconv, 4, stride=2, padding=1, bias=False)
            layers += [enlarge, nn.BatchNorm2d(deconv), nn.ReLU(inplace=True)]
        self.deconv_layers = nn.Sequential(*layers)
        self.final_layer = nn.Conv2d(deconv, keypoints, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.final_layer(self.deconv_layers(x))


_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}

# Not published: small enough to train on one core, and nowhere wider or deeper than pose_resnet_50, so that its weights
# can be embedded there (see export/demo/embed.py).
_DEMO = partial(PoseResNet, blocks=(2, 2, 2, 2), stem=32, planes=(16, 32, 64, 128), deconv=64)

ARCHITECTURES = (
    *(
        Architecture(f"pose_resnet_{depth}{'_caffe' * caffe}", partial(PoseResNet, blocks=blocks, caffe=caffe))
        for caffe in (False, True)
        for depth, blocks in _BLOCKS.items()
    ),
    Architecture("pose_resnet_demo", _DEMO),
)
