"""From features to heatmaps: deconvolutions, convolutions and the layer that gives the maps."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

# Padding and output padding with which a deconvolution of this kernel and of stride 2 doubles the size.
DECONV_PADDING = {2: (0, 0), 3: (1, 1), 4: (1, 0)}


@dataclass(frozen=True)
class Head:
    """The layers of a head.

    Attributes:
        deconv: channels and kernel (2, 3 or 4) of each deconvolution; each doubles the size.
        conv: channels and (odd) kernel of each convolution after them.
        final: kernel and padding of the convolution that gives the maps. None: the features before it are the maps.
    """

    deconv: tuple[tuple[int, int], ...] = ()
    conv: tuple[tuple[int, int], ...] = ()
    final: tuple[int, int] | None = (1, 0)

    def width(self, features: int) -> int:
        """Channels before the final layer, where the head is given `features` channels."""
        return next((layers[-1][0] for layers in (self.conv, self.deconv) if layers), features)


PLAIN = Head()
"""One 1x1 convolution."""


class MapNetwork(nn.Module):
    """Base of the networks whose state dict has the entries of the backbone and of the head side by side."""

    def add_head(self, features: int, keypoints: int, head: Head) -> None:
        """Append the layers of a head, for `features` channels."""
        if head.deconv:
            self.deconv_layers = deconvolutions(features, head.deconv)
        if head.conv:
            self.conv_layers = _convolutions(Head(head.deconv).width(features), head.conv)
        if head.final:
            self.final_layer = final_layer(head.width(features), keypoints, head.final)
        layers = {"deconv_layers": head.deconv, "conv_layers": head.conv, "final_layer": head.final}
        self.head_layers = tuple(name for name, given in layers.items() if given)

    def maps(self, x: Tensor) -> Tensor:
        """Heatmaps `(N, K, h, w)` from the features that the head reads."""
        for name in self.head_layers:
            x = self.get_submodule(name)(x)
        return x


def final_layer(cin: int, keypoints: int, final: tuple[int, int] | None) -> nn.Module:
    """The convolution (kernel, padding) that gives the maps, or nothing."""
    return nn.Identity() if final is None else nn.Conv2d(cin, keypoints, final[0], padding=final[1])


def deconvolutions(cin: int, layers: tuple[tuple[int, int], ...]) -> nn.Sequential:
    """Deconvolutions of stride 2 (channels, kernel), each with batch-norm and ReLU."""
    built: list[nn.Module] = []
    for cout, kernel in layers:
        padding, extra = DECONV_PADDING[kernel]
        enlarge = nn.ConvTranspose2d(cin, cout, kernel, 2, padding, extra, bias=False)
        built += [enlarge, nn.BatchNorm2d(cout), nn.ReLU(inplace=True)]
        cin = cout
    return nn.Sequential(*built)


def _convolutions(cin: int, layers: tuple[tuple[int, int], ...]) -> nn.Sequential:
    built: list[nn.Module] = []
    for cout, kernel in layers:
        # The bias before a batch-norm is redundant, and checkpoints have it.
        built += [nn.Conv2d(cin, cout, kernel, padding=kernel // 2), nn.BatchNorm2d(cout), nn.ReLU(inplace=True)]
        cin = cout
    return nn.Sequential(*built)
