"""How far joints lie from their labels, and what a change of the contract gains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...runtime.metrics.pck import THRESHOLD
from .alternatives import Joints

FAR = 0.2
"""Of the box's longer side: farther joints count as this far, so that a few lost ones do not outweigh all others."""

_RESAMPLES = 4000


@dataclass(frozen=True)
class Agreement:
    """How well joints agree with their labels.

    Attributes:
        pck: share within 0.05 of the box's longer side.
        distance: mean distance, of the box's longer side; farther than `FAR` counts as `FAR`.
    """

    pck: float
    distance: float


@dataclass(frozen=True)
class Change:
    """One alternative against the contract before it.

    Attributes:
        kind, words: see `Alternative`.
        lines: the lines of contract.yaml that state it.
        before, after: agreement without and with it; of a flip test where `kind` is "flip test".
        gain: by how much the mean distance falls, of the box's longer side.
        interval: of the gain, by a paired bootstrap over images: 95 % for all alternatives of a round together.
        named: whether it is taken for a mistake in the contract.
        finer: it is a decode rule that reads the same output more finely: a choice, not a mistake.
    """

    kind: str
    words: str
    lines: tuple[str, ...]
    before: Agreement
    after: Agreement
    gain: float
    interval: tuple[float, float]
    named: bool
    finer: bool = False


def agreement(distance: Joints) -> Agreement:
    """Of distances `(N, K)`, of the box's longer side; NaN without a label."""
    seen = distance[~np.isnan(distance)]
    return Agreement(float((seen <= THRESHOLD).mean()), float(seen.mean()))


def mean_of_people(distance: Joints) -> Joints:
    """Mean over people `(K,)`; NaN where a joint is never labelled."""
    known = ~np.isnan(distance)
    total, count = np.where(known, distance, 0).sum(axis=0), known.sum(axis=0)
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)


def gain(before: Joints, after: Joints, image: NDArray[np.intp], confidence: float) -> tuple[float, float, float]:
    """By how much the mean distance falls, and the interval of that by a paired bootstrap over images."""
    images = np.unique(image, return_inverse=True)[1]
    count = int(images.max()) + 1
    drawn = np.random.default_rng(0).integers(0, count, (_RESAMPLES, count))
    point, draws = 0.0, np.zeros(_RESAMPLES)
    for sign, distance in ((1, before), (-1, after)):
        known = ~np.isnan(distance)
        total = np.bincount(images, np.where(known, distance, 0.0).sum(axis=1))
        labelled = np.bincount(images, known.sum(axis=1))
        point += sign * total.sum() / labelled.sum()
        draws += sign * total[drawn].sum(axis=1) / labelled[drawn].sum(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(point), float(low), float(high)
