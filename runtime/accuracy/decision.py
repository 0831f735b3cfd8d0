"""Does a graph lose less accuracy than is allowed, does it lose more, or can the labels not tell?

A test of non-inferiority (Piaggio et al., JAMA 2012): a graph has passed when the upper bound of its loss is within
what is allowed, and failed when the lower bound is beyond it. In between it is undecided.

AP moves in steps, one for each person and threshold, and a step outweighs what int8 costs. So the loss is measured on a
figure of the same scale without steps: each person's share of all OKS thresholds from 0.475 to 0.975, of which AP takes
every tenth (`oks_shares`); for joints without sigmas each joint's share of all PCK thresholds up to 0.1 (`pck_shares`).

A few labels seldom show the rare joint that jumps to another place, and then the spread between people says nothing
about it. So both bounds are those of the sample and of one more person, who lost one joint: see `bounds`.
`python -m posert.benchmarks.verdicts` measures how often the verdict is wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..metrics.pck import THRESHOLD
from ..metrics.student import student

Double = NDArray[np.float64]

PASSED, FAILED, UNDECIDED = "passed", "failed", "undecided"

# Losses are skewed: many people lose nothing and a few lose a lot. With this quantile of Student's t at most 5 % of the
# graphs that lose as much as is allowed pass, and at most 5 % fail; with 0.95 up to 8 % do.
QUANTILE = 0.97

_FIRST, _SPAN = 0.475, 0.5  # AP's ten thresholds 0.5, 0.55, ... 0.95, each standing for 0.05 around it
_MOST_IMAGES = 1_000_000
_INT8_ERROR = 0.02  # the least that was measured of an int8 graph of the catalog, relative L2


@dataclass(frozen=True)
class Shares:
    """What N people score, each a sum over what is counted: people themselves, or their labelled joints.

    Attributes:
        image: `(N,)` index of each person's image.
        score: `(N,)`, from 0 to `count`.
        count: `(N,)` 1 for each person, or the number of labelled joints.
        joint: what one joint contributes to the score.
    """

    image: NDArray[np.intp]
    score: Double
    count: Double
    joint: float

    @property
    def mean(self) -> float:
        """From 0 to 1."""
        return float(self.score.sum() / self.count.sum())


@dataclass(frozen=True)
class Loss:
    """What is lost, from 0 to 1.

    Attributes:
        point: on the sample.
        low, high: one-sided 95 % bounds; infinite with fewer than two images.
        people, images: of the sample.
        spread: standard deviation of the loss of one image.
        joint: what losing one joint means for the loss of one image.
    """

    point: float
    low: float
    high: float
    people: int
    images: int
    spread: float
    joint: float

    def verdict(self, allowed: float) -> str:
        """ "passed", "failed" or "undecided"."""
        if self.high <= allowed:
            return PASSED
        return FAILED if self.low > allowed else UNDECIDED

    def people_needed(self, allowed: float) -> int | None:
        """About how many labelled people would decide, if the loss is what this sample shows; None: too many to tell.

        The point counts as no loss where it is a gain.
        """
        if self.images < 2:
            return None
        gap, images = abs(allowed - max(self.point, 0.0)), 2.0
        while images < _MOST_IMAGES:
            variance = self.spread**2 + self.joint**2 / images
            if self.joint / images + student(QUANTILE, images) * math.sqrt(variance / images) < gap:
                return math.ceil(images * self.people / self.images)
            images *= 1.1
        return None


def decide(loss: Loss, interval: tuple[float, float], allowed: float) -> str:
    """The verdict by the loss without steps, and by the 95 % interval of the loss of AP or PCK itself.

    AP also sees scores that rank people worse than before, which no joint shows. Its interval lies beyond what is
    allowed by chance in 1 of 40 test sets.
    """
    return FAILED if interval[0] > allowed else loss.verdict(allowed)


def oks_shares(image: NDArray[np.intp], similarity: Double, joints: int) -> Shares:
    """Of the OKS `(N,)` of N people with so many joints."""
    share = np.clip((similarity - _FIRST) / _SPAN, 0, 1)
    return Shares(image, share, np.ones(len(share)), 1 / joints / _SPAN)


def pck_shares(image: NDArray[np.intp], distance: Double) -> Shares:
    """Of the distances `(N, K)` of joints from their labels, of the box's longer side; NaN without a label."""
    share = np.clip(1 - distance / (2 * THRESHOLD), 0, 1)
    return Shares(image, np.nansum(share, axis=1), (~np.isnan(distance)).sum(axis=1).astype(np.float64), 1.0)


def bounds(before: Shares, after: Shares, error: float) -> Loss:
    """What is lost from `before` to `after`, of the same people, with bounds by Student's t over images.

    The upper bound is that of the sample and one more image, whose person lost one joint altogether; the lower bound
    that of the sample and one whose person gained one. With 17 joints and 0.005 allowed this rules out a pass on fewer
    than about 50 people, and hardly changes the bounds of 1000. A joint jumps where two peaks are as near to each other
    as the outputs' relative error `error`, so a graph that computes more exactly than int8 counts less of a joint.
    """
    images = np.unique(before.image, return_inverse=True)[1]
    lost = np.bincount(images, before.score - after.score).astype(np.float64)
    count = np.bincount(images, before.count).astype(np.float64)
    n, people = len(lost), len(images)
    person, lost_joint = count.sum() / people, before.joint * min(1.0, error / _INT8_ERROR)
    joint = lost_joint / float(count.mean())
    point, spread = _ratio(lost, count)
    if n < 2:
        return Loss(point, -math.inf, math.inf, people, n, math.inf, joint)
    low, high = (
        mean + sign * student(QUANTILE, n) * deviation / math.sqrt(n + 1)
        for sign in (-1, 1)
        for mean, deviation in (_ratio(np.append(lost, sign * lost_joint), np.append(count, person)),)
    )
    return Loss(point, low, high, people, n, spread, joint)


def _ratio(total: Double, count: Double) -> tuple[float, float]:
    """The mean per count over images, and the standard deviation of an image's part in it (Cochran 1977, 6.4)."""
    mean = float(total.sum() / count.sum())
    if len(total) < 2:
        return mean, math.inf
    return mean, float(np.std((total - mean * count) / count.mean(), ddof=1))
