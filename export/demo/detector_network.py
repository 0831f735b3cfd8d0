"""A small one-class detector in the manner of YOLOX: anchor-free, three strides, objectness and class apart."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .letterbox import PADDING

_SPREAD = 58  # of the values of a picture: what normalisation divides by


class _Conv(nn.Sequential):
    def __init__(self, inputs: int, outputs: int, size: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class _Residual(nn.Module):
    """A bottleneck that is added to what it reads."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.narrow, self.wide = _Conv(channels, channels // 2, 1), _Conv(channels // 2, channels)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.wide(self.narrow(x))
        return result


class Head(nn.Module):
    """Box, objectness and class of each cell `(N, 6, h, w)`, the last two before their sigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.where, self.what = _Conv(channels, channels), _Conv(channels, channels)
        self.box, self.objectness = nn.Conv2d(channels, 4, 1), nn.Conv2d(channels, 1, 1)
        self.person = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        where, what = self.where(x), self.what(x)
        return torch.cat([self.box(where), self.objectness(where), self.person(what)], 1)


class Detector(nn.Module):
    """Pictures `(N, 3, 256, 320)`, BGR 0..255, to `(N, A, 6)`, YOLOX's layout without its decoding.

    A counts the cells of the strides 8, 16, 32 row by row. Of a cell: centre relative to the cell's corner and
    logarithm of width and height, all in strides; objectness and the class `person`, as probabilities.
    """

    def __init__(self, widths: tuple[int, ...] = (16, 32, 48, 80, 96), neck: int = 48) -> None:
        super().__init__()
        first, second, *rest = widths
        self.stem = nn.Sequential(_Conv(3, first, stride=2), _Conv(first, second, stride=2))
        self.stages = nn.ModuleList(
            nn.Sequential(_Conv(before, after, stride=2), _Residual(after), _Residual(after))
            for before, after in zip((second, *rest), rest, strict=False)
        )
        self.laterals = nn.ModuleList(_Conv(width, neck, 1) for width in rest)
        self.heads = nn.ModuleList(Head(neck) for _ in rest)

    def maps(self, images: Tensor) -> list[Tensor]:
        """The heads' results for each stride."""
        x = self.stem((images - PADDING) / _SPREAD)
        levels = []
        for stage, lateral in zip(self.stages, self.laterals, strict=True):
            x = stage(x)
            levels.append(lateral(x))
        for fine in (1, 0):  # coarse levels tell the finer ones what is around a cell
            levels[fine] = levels[fine] + nn.functional.interpolate(levels[fine + 1], scale_factor=2.0)
        return [head(level) for head, level in zip(self.heads, levels, strict=True)]

    def forward(self, images: Tensor) -> Tensor:
        maps = [torch.cat([m[:, :4], m[:, 4:].sigmoid()], 1).flatten(2) for m in self.maps(images)]
        return torch.cat(maps, 2).transpose(1, 2)
