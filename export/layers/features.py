"""Which of a backbone's maps a head reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Features:
    """One map of a backbone, or several concatenated at the size of the first.

    Attributes:
        indices: of the maps, counted as in a list.
        align_corners: how bilinear interpolation resizes them.
        relu: apply a ReLU to the result.
        scale: then resize it by this factor.
    """

    indices: tuple[int, ...] = (-1,)
    align_corners: bool = False
    relu: bool = False
    scale: float = 1.0

    def width(self, widths: Sequence[int]) -> int:
        """Channels of the result, given those of the maps."""
        return sum(widths[i] for i in self.indices)

    def among(self, numbers: Sequence[int]) -> Features:
        """The same of a longer list, in which the maps have these numbers."""
        return replace(self, indices=tuple(numbers[i] for i in self.indices))

    def of(self, maps: Sequence[Tensor], strides: Sequence[int]) -> Tensor:
        """The features `(N, C, h, w)`; `strides` are px of the crop per cell of each map."""
        first = strides[self.indices[0]]
        # A factor, not a size: the exported graph then holds no size.
        chosen = [self._resize(maps[i], strides[i] / first) for i in self.indices]
        x = chosen[0] if len(chosen) == 1 else torch.cat(chosen, 1)
        return self._resize(F.relu(x) if self.relu else x, self.scale)

    def _resize(self, x: Tensor, factor: float) -> Tensor:
        if factor == 1:
            return x
        return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=self.align_corners)


LAST = Features()
"""The last map alone."""
