"""A network of one's own: four levels down, three up, one heatmap per joint. Nothing in it comes from posert."""

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn


def conv(channels_in: int, channels_out: int, stride: int = 2) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 3, stride, 1), nn.ReLU())


class MouseNet(nn.Module):
    """Normalised images `(N, 3, 128, 128)`, RGB, to heatmaps `(N, 17, 32, 32)`."""

    def __init__(self, joints: int = 17) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 12), conv(12, 20))
        self.down = nn.ModuleList([conv(20, 24), conv(24, 28), conv(28, 32)])
        self.middle = conv(32, 32, stride=1)
        self.up = nn.ModuleList([conv(32, 28, 1), conv(28, 24, 1), conv(24, 20, 1)])
        self.head = nn.Conv2d(20, joints, 1)

    def forward(self, images: Tensor) -> Tensor:
        maps = [self.stem(images)]
        for level in self.down:
            maps.append(level(maps[-1]))
        x = self.middle(maps[-1]) + maps.pop()
        for level in self.up:
            x = nn.functional.interpolate(level(x), scale_factor=2) + maps.pop()
        return self.head(x)


def trained() -> MouseNet:
    """With its weights. Here they lie in an ONNX file; in your project this is `load_state_dict(torch.load(...))`."""
    weights = {w.name: w for w in onnx.load("tests/goldens/mirror_mouse/network.onnx").graph.initializer}
    ordered = sorted((name for name in weights if name.startswith("onnx::")), key=lambda name: int(name.split("_")[1]))
    network = MouseNet()
    state = network.state_dict()
    for key, name in zip(state, [*ordered, "head.weight", "head.bias"], strict=True):
        state[key] = torch.from_numpy(numpy_helper.to_array(weights[name]).copy())
    network.load_state_dict(state)
    return network.eval()
