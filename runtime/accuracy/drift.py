"""How far joints move from the reference's: as the user sees them, and as DARK sees them.

A rule that steps by quarters of a cell hides moves within the step and doubles those across it; DARK shows what the
network itself does. So both are measured, DARK on a sample, since it takes the outputs to the host and time to decode.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..bundle.contract import Contract
from ..metrics.student import student
from ..pose.decode import to_frame
from ..pose.heads import Outputs, head
from .decision import FAILED, PASSED, QUANTILE, UNDECIDED
from .people import Float, People
from .verdict import HeightDrift

HEIGHTS = (64, 128, 256)
"""Upper edges of the classes of people by the height of their box, px of the frame; the last class has none."""

FEWEST = 20
"""With fewer people a class has no figure: a 95th percentile would rest on a handful of joints."""

JUMP = 1 / 16
"""A joint that moved farther than this share of the crop's longer side has gone to another peak. It is twice the
standard deviation of the Gaussians that heatmaps are trained with (2 of 64 cells, 3 of 96): two equal Gaussians that
are nearer to each other have one peak. Of 28,278 joints in int8 (photographs of a mouse, synthetic people) 26 moved
farther under a quarter-cell rule, 23 of them by more than 2 of 64 cells under DARK as well; of the others none moved by
more than 1.5 cells under DARK."""

DARK_PEOPLE = 128
"""People on whom DARK is measured, at most; an image is taken whole."""

_SHARE = 0.95
_EXACT = ("unbiased", "udp", "udp_heatmap", "simcc_dark")  # are DARK themselves
_MOST_PEOPLE = 1_000_000


@dataclass(frozen=True)
class Drift:
    """The 95th percentile of the distances of N people's joints.

    Attributes:
        p95: px of the frame.
        low, high: one-sided 95 % bounds; infinite where the joints are too few to have one.
        people: N.
        distances: of all labelled joints, sorted.
        margin: how far the bounds are from 0.95, as shares of the joints.
    """

    p95: float
    low: float
    high: float
    people: int
    distances: NDArray[np.float64]
    margin: float

    def verdict(self, allowed: float) -> str:
        """ "passed", "failed" or "undecided"."""
        if self.high <= allowed:
            return PASSED
        return FAILED if self.low > allowed else UNDECIDED

    def people_needed(self, allowed: float) -> int | None:
        """About how many people would decide, if joints move as on this sample; None: too many to tell."""
        within = np.searchsorted(self.distances, allowed, "right") / len(self.distances)
        gap = abs(float(within) - _SHARE)
        if not math.isfinite(self.margin) or gap * math.sqrt(_MOST_PEOPLE / self.people) <= self.margin:
            return None
        return math.ceil(self.people * (self.margin / gap) ** 2)


def p95(image: NDArray[np.intp], drift: Float) -> Drift:
    """The 95th percentile of distances `(N, K)`, NaN without a label, with bounds by Woodruff (JASA 1952).

    The share of joints within the percentile has a standard error over images; the bounds are the quantiles at 0.95
    minus and plus it. The percentile bootstrap is too narrow on few images: of 20, it passed a graph at the allowed
    drift in 11 of 100 test sets. Joints count as independent at best, or images that agree would decide too soon.
    """
    kept = np.isfinite(drift)
    images = np.unique(image, return_inverse=True)[1]
    n, people = int(images.max()) + 1, len(drift)
    distances = np.sort(drift[kept].astype(np.float64))
    point = float(np.quantile(distances, _SHARE))
    if n < 2:
        return Drift(point, -math.inf, math.inf, people, distances, math.inf)
    count = np.bincount(images, kept.sum(axis=1), n)
    over = np.bincount(images, (kept & (drift > point)).sum(axis=1), n)
    joints = len(distances)
    spread = n / (n - 1) * float(np.square(over - over.sum() / joints * count).sum()) / joints**2
    margin = student(QUANTILE, n) * math.sqrt(max(spread, _SHARE * (1 - _SHARE) / joints))
    low = float(np.quantile(distances, max(_SHARE - margin, 0.0)))
    high = float(np.quantile(distances, _SHARE + margin)) if _SHARE + margin < 1 else math.inf
    return Drift(point, low, high, people, distances, margin)


def dark(contract: Contract) -> Contract | None:
    """The contract with DARK as its rule; None where its own rule is DARK, or DARK does not read these outputs."""
    if contract.decode in _EXACT:
        return None
    shapes = head(contract.decode).shapes(contract)
    for rule in ("unbiased", "simcc_dark"):
        if head(rule).shapes(contract) == shapes:
            return replace(contract, decode=rule)
    return None


def joints(outputs: Outputs, contract: Contract, people: People, members: NDArray[np.intp]) -> Float:
    """Joints `(n, K, 2)` of some people by a contract's rule, px of the frame; not finite where the rule finds none."""
    center, extent = people.regions(contract)
    with np.errstate(all="ignore"):
        cells = head(contract.decode).decode(outputs, contract)[0].astype(np.float32)
    size = contract.heatmap_width, contract.heatmap_height
    return to_frame(cells, center[members], extent[members], *size, contract.map_udp)


def sample(people: People) -> frozenset[int]:
    """Images, spread evenly, with about `DARK_PEOPLE` people together; all where there are no more."""
    images = np.unique(people.image)
    wanted = max(1, math.ceil(len(images) * min(1.0, DARK_PEOPLE / len(people))))
    return frozenset(images[np.linspace(0, len(images) - 1, wanted).astype(int)].tolist())


def jumped(drift: Float, extent: Float) -> float:
    """The share of labelled joints that moved to another peak; `extent` `(N, 2)` is that of the crops."""
    far = drift > JUMP * extent.max(axis=1, keepdims=True)  # NaN is not
    return float(far.sum() / np.isfinite(drift).sum())


def by_height(height: NDArray[np.float64], drift: Float, dark_drift: Float | None) -> tuple[HeightDrift, ...]:
    """The drift of people in classes of the height of their box, the smallest first."""
    found = []
    classes = np.digitize(height, HEIGHTS)
    for k, below in enumerate((*HEIGHTS, None)):
        members = classes == k
        seen = None if dark_drift is None else _percentile(dark_drift[members])
        found.append(HeightDrift(below, int(members.sum()), _percentile(drift[members]), seen))
    return tuple(found)


def _percentile(drift: Float) -> float | None:
    """Of a class; None with too few people."""
    measured = np.isfinite(drift)
    return None if measured.any(axis=1).sum() < FEWEST else float(np.quantile(drift[measured], _SHARE))


def worst_of(verdicts: Sequence[str]) -> str:
    """Failed before undecided before passed."""
    return next(v for v in (FAILED, UNDECIDED, PASSED) if v in verdicts)
