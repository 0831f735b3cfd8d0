"""Random numbers that are the same with every version of NumPy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class StableRng:
    """Random numbers that depend on the key only.

    Everything is derived from `Generator.random()`: NumPy keeps that stream the same between versions, which it does
    not promise for `normal`, `choice` and the like.
    """

    def __init__(self, *key: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(list(key))))

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(self._generator.random())

    def bell(self, mean: float, std: float) -> float:
        """Bell-shaped and bounded to mean +- 3.5 std: the sum of four uniform numbers."""
        return mean + std * (float(self._generator.random(4).sum()) - 2.0) * math.sqrt(3.0)

    def chance(self, probability: float) -> bool:
        return float(self._generator.random()) < probability

    def integer(self, low: int, high: int) -> int:
        """Uniform in low..high, both included."""
        return low + int(float(self._generator.random()) * (high - low + 1))

    def pick(self, options: Sequence[T], weights: Sequence[float] | None = None) -> T:
        if weights is None:
            return options[self.integer(0, len(options) - 1)]
        rest = self.uniform(0, sum(weights))
        for option, weight in zip(options, weights, strict=True):
            rest -= weight
            if rest < 0:
                return option
        return options[-1]

    def array(self, *shape: int) -> NDArray[np.float32]:
        """Uniform in [0, 1)."""
        return self._generator.random(shape).astype(np.float32)
