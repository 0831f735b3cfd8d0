"""Two small networks of the kinds that bring matrix products: RTMPose's (SimCC, gated attention) and ViTPose's.

Nothing of the catalog is like them, and their published weights cannot be downloaded in a test. Their blocks are the
published ones, their widths and depths are small; weights are random, or trained on synthetic people by whoever asks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from posert.export import catalog
from posert.runtime.bundle.contract import Contract

_NEAR_ZERO = 1e-5


def networks() -> dict[str, Callable[[], tuple[nn.Module, Contract]]]:
    """What makes each network, with COCO's joints and its contract, by name."""
    return {"simcc": simcc, "vit": vit}


def simcc(width: int = 16) -> tuple[nn.Module, Contract]:
    """A network like RTMPose, of `width` channels behind the stem."""
    contract = _contract("simcc", 384, 512)
    return SimCC(len(contract.keypoints), width, contract.width, contract.height), contract


def vit(width: int = 128, depth: int = 4) -> tuple[nn.Module, Contract]:
    """A network like ViTPose with its simple head, of `depth` blocks of `width` features."""
    contract = replace(_contract("udp_heatmap", 48, 64), udp=True, flip_shift=False)
    return ViT(len(contract.keypoints), width, depth, contract.width, contract.height), contract


def _contract(decode: str, width: int, height: int) -> Contract:
    made = catalog.find("hrnet_w32").contract()
    return replace(made, decode=decode, heatmap_width=width, heatmap_height=height)


class SimCC(nn.Module):
    """CSPNeXt's blocks, a wide convolution, ScaleNorm, a gated attention unit and a matrix for each axis."""

    def __init__(self, joints: int, width: int, crop_width: int, crop_height: int, features: int = 128) -> None:
        super().__init__()
        cells = (crop_width // 32) * (crop_height // 32)
        stages: list[nn.Module] = [_conv(3, width, 3, 2)]
        for k in range(4):
            stages += [_conv(width << k, width << k + 1, 3, 2), Gated(width << k + 1)]
        self.backbone = nn.Sequential(*stages, Pyramid(width << 4))
        self.final = nn.Conv2d(width << 4, joints, 7, padding=3)
        self.mlp = nn.Sequential(ScaleNorm(cells), nn.Linear(cells, features, bias=False))
        self.unit = GatedAttention(features)
        self.x = nn.Linear(features, 2 * crop_width, bias=False)
        self.y = nn.Linear(features, 2 * crop_height, bias=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images `(N, 3, H, W)` to vectors `(N, K, 2 W)` and `(N, K, 2 H)`."""
        joints = self.unit(self.mlp(self.final(self.backbone(images)).flatten(2)))
        return self.x(joints), self.y(joints)


def _conv(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out), nn.SiLU())


class Gated(nn.Module):
    """A cross-stage block: half of the channels through a depthwise convolution; all weighed by channel attention."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.main, self.short = _conv(channels, half, 1), _conv(channels, half, 1)
        self.block = nn.Sequential(_conv(half, half, 3), _conv(half, half, 5, groups=half), _conv(half, half, 1))
        self.attention = nn.Conv2d(channels, channels, 1)
        self.last = _conv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        main = self.main(x)
        both = torch.cat([main + self.block(main), self.short(x)], 1)
        weight = functional.hardsigmoid(self.attention(both.mean((2, 3), keepdim=True)))
        out: Tensor = self.last(both * weight)
        return out


class Pyramid(nn.Module):
    """Maxima over windows of three sizes beside the features themselves."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.last = _conv(channels, channels // 2, 1), _conv(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        windows = [functional.max_pool2d(x, kernel, 1, kernel // 2) for kernel in (5, 9, 13)]
        out: Tensor = self.last(torch.cat([x, *windows], 1))
        return out


class ScaleNorm(nn.Module):
    """Features divided by their length, times one learned number (Nguyen and Salazar, 2019)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.scale, self.gain = features**-0.5, nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x / (x.norm(dim=2, keepdim=True) * self.scale).clamp(min=_NEAR_ZERO) * self.gain


class GatedAttention(nn.Module):
    """RTMPose's gated attention unit (Hua et al., 2022): attention by the squared ReLU, gated, and a shortcut."""

    def __init__(self, features: int, shared: int = 64) -> None:
        super().__init__()
        self.sizes = [2 * features, 2 * features, shared]
        self.norm, self.shared = ScaleNorm(features), shared
        self.uv, self.o = (
            nn.Linear(features, sum(self.sizes), bias=False),
            nn.Linear(2 * features, features, bias=False),
        )
        self.gamma, self.beta = nn.Parameter(torch.rand(2, shared)), nn.Parameter(torch.rand(2, shared))
        self.shortcut = nn.Parameter(torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        u, v, base = functional.silu(self.uv(self.norm(x))).split(self.sizes, 2)
        query, key = (base.unsqueeze(2) * self.gamma + self.beta).unbind(2)
        kernel = functional.relu(query @ key.transpose(1, 2) / self.shared**0.5).square()
        out: Tensor = self.shortcut * x + self.o(u * (kernel @ v))
        return out


class ViT(nn.Module):
    """Patches of 16 px, blocks of attention and a perceptron, maps of four times the patches' resolution."""

    def __init__(self, joints: int, width: int, depth: int, crop_width: int, crop_height: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.grid = crop_height // 16, crop_width // 16
        self.position = nn.Parameter(0.02 * torch.randn(1, self.grid[0] * self.grid[1], width))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)), nn.LayerNorm(width))
        self.head = nn.Conv2d(width, joints, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Images `(N, 3, H, W)` to maps `(N, K, H / 4, W / 4)`."""
        tokens = self.blocks(self.patches(images).flatten(2).transpose(1, 2) + self.position)
        maps = tokens.transpose(1, 2).unflatten(2, self.grid)
        out: Tensor = self.head(functional.interpolate(functional.relu(maps), scale_factor=4.0, mode="bilinear"))
        return out


class Block(nn.Module):
    """Attention of heads of 32 features, then a perceptron with GELU, each behind a LayerNorm and with a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.before(x)).unflatten(2, (3, -1, 32)).permute(2, 0, 3, 1, 4).unbind()
        seen = ((q * 32**-0.5) @ k.transpose(2, 3)).softmax(3) @ v
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        out: Tensor = x + self.mlp(self.after(x))
        return out
