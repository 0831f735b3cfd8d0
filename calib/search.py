"""Mixed-precision search: the cheapest set of blocks to keep in float so that accuracy drops by no more than allowed.

Blocks are kept in float in the order of their sensitivity per multiply-accumulate until the drop is small enough. How
many are needed is found by bisection, in about seven measurements for a network of fifty blocks. A second pass orders
by sensitivity alone, as long as that is cheaper: an expensive block that causes the drop comes late in the first order,
behind cheap ones that do not matter.

Accuracy is measured on a finite number of people, so the drop need not fall monotonically along an order. Bisection may
then miss the shortest prefix; but the result was itself measured to be within the allowed drop.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..runtime.errors import GateError
from .sensitivity import Block

_SAME_SPEED = 0.02  # relative; medians on an idle machine repeat to about that


@dataclass(frozen=True)
class Measurement:
    """Accuracy and time of a network with some nodes in float.

    Attributes:
        drop: of accuracy; infinite where accuracy could not be measured.
        interval: confidence interval of the drop, or None.
        ms: time per person; None where nothing here runs int8, and multiply-accumulates decide what is cheap.
        drift: 95th percentile of the distance that joints moved, px of the frame; None where it was not measured.
        drift_bounds: bounds of it, or None.
    """

    drop: float
    interval: tuple[float, float] | None = None
    ms: float | None = None
    drift: float | None = None
    drift_bounds: tuple[float, float] | None = None

    def within(self, max_drop: float, max_drift: float | None) -> bool:
        """Whether neither the drop nor the drift is larger than allowed; a drift of None is not bounded."""
        return self.drop <= max_drop and (max_drift is None or (self.drift is not None and self.drift <= max_drift))


@dataclass(frozen=True)
class Step:
    """One measured network.

    Attributes:
        blocks: names of the blocks in float.
        float_nodes: names of their nodes.
        float_macs: their share of the network's multiply-accumulates.
        measured: accuracy and time.
    """

    blocks: tuple[str, ...]
    float_nodes: tuple[str, ...]
    float_macs: float
    measured: Measurement


@dataclass(frozen=True)
class SearchResult:
    """The cheapest step within the allowed drop, and every step that was measured, fewest float operations first."""

    best: Step
    curve: tuple[Step, ...]


def find_float_blocks(
    blocks: Sequence[Block],
    measure: Callable[[tuple[str, ...]], Measurement],
    max_drop: float,
    progress: Callable[[Step], None] | None = None,
    max_drift: float | None = None,
) -> SearchResult:
    """Find which blocks must stay in float.

    Args:
        blocks: as `sensitivity` gives them.
        measure: measures the network with these nodes in float.
        max_drop: the allowed drop, in the unit of `measure`.
        progress: called with each measured step.
        max_drift: the allowed drift, px; None: any.

    Raises:
        GateError: no measured network is within `max_drop` and `max_drift`; the message names the best one.
    """
    steps: dict[frozenset[str], Step] = {}

    def within_drop(in_float: Sequence[Block]) -> bool:
        key = frozenset(block.name for block in in_float)
        if key not in steps:
            nodes = tuple(name for block in in_float for name in block.nodes)
            macs = sum(block.macs for block in in_float)
            steps[key] = Step(tuple(block.name for block in in_float), nodes, macs, measure(nodes))
            if progress is not None:
                progress(steps[key])
        return steps[key].measured.within(max_drop, max_drift)

    by_loss_per_mac = sorted(blocks, key=lambda b: -b.loss / max(b.macs, 1e-9))
    count = _shortest_prefix(by_loss_per_mac, within_drop, 0, len(blocks) - 1)  # with all of them nothing is int8
    if count is None:
        raise GateError(_refusal(list(steps.values()), len(blocks), max_drop, max_drift))
    if count:
        by_loss = sorted(blocks, key=lambda b: -b.loss)
        limit = sum(block.macs for block in by_loss_per_mac[:count])
        cheaper = sum(macs < limit for macs in itertools.accumulate(block.macs for block in by_loss))
        _shortest_prefix(by_loss, within_drop, 1, cheaper)
    curve = sorted(steps.values(), key=lambda s: (s.float_macs, len(s.blocks)))
    return SearchResult(_cheapest([s for s in curve if s.measured.within(max_drop, max_drift)]), tuple(curve))


def _refusal(steps: Sequence[Step], blocks: int, max_drop: float, max_drift: float | None) -> str:
    """What the nearest step costs: by the drop, unless some step keeps that and the drift is too large."""
    kept = [s for s in steps if s.measured.drop <= max_drop]
    if kept:
        nearest = min(kept, key=lambda s: math.inf if s.measured.drift is None else s.measured.drift)
        asked, option = f"95 % of the joints within {max_drift:g} px", "--max-drift"
        cost = f"moves them by {nearest.measured.drift or math.nan:.3g} px"
    else:
        nearest = min(steps, key=lambda s: s.measured.drop)
        asked, option = f"the AP drop within {max_drop:g}", "--max-drop"
        cost = f"loses {nearest.measured.drop:.4g}"
    return (
        f"no int8 network keeps {asked}: the best of {len(steps)} measured {cost}, with {len(nearest.blocks)} of "
        f"{blocks} blocks in float ({nearest.float_macs:.1%} of the multiply-adds). Allow more ({option}), or use fp16."
    )


def _shortest_prefix(
    order: Sequence[Block], within_drop: Callable[[Sequence[Block]], bool], least: int, most: int
) -> int | None:
    """Length of the shortest prefix that is within the drop, between two lengths; None if even the longest is not."""
    low, high = least - 1, least  # low is known to fail
    if high > most:
        return None
    while not within_drop(order[:high]):
        if high >= most:
            return None
        low, high = high, min(2 * high + 1, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if within_drop(order[:middle]) else (middle, high)
    return high


def _cheapest(steps: Sequence[Step]) -> Step:
    """The fastest step; among steps of the same speed, the one with the fewest float operations."""
    times = [s.measured.ms for s in steps]
    known = [t for t in times if t is not None]
    if len(known) == len(steps):
        steps = [s for s, t in zip(steps, known, strict=True) if t <= min(known) * (1 + _SAME_SPEED)]
    return min(steps, key=lambda s: (s.float_macs, len(s.blocks)))
