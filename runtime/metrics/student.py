"""Quantiles of Student's t. By hand, because an edge install has no scipy."""

from __future__ import annotations

from statistics import NormalDist


def student(p: float, df: float) -> float:
    """The `p` quantile with `df` degrees of freedom (Abramowitz and Stegun 26.7.5); within 2 % from 3 degrees on."""
    z = NormalDist().inv_cdf(p)
    second, third = (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + (z**3 + z) / 4 / df + second / df**2 + third / df**3
