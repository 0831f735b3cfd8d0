"""The cheapest set of blocks to leave in float so that accuracy falls by no more than it may.

Blocks are left in float in the order of what they cost in keypoints per multiply-accumulate, until accuracy holds: the
length of that order is found by halving, about seven measurements for a network of fifty blocks. A second pass goes by
the cost in keypoints alone, as far as that is cheaper: a dear block that is to blame stands late in the first order,
behind cheap ones that did not matter.

Accuracy is measured on finite people, so the drop need not fall along an order. Halving may then miss the shortest
piece; but what is returned was itself measured to hold, never concluded from its neighbours.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..runtime.errors import GateError
from .sensitivity import Block

_SAME_SPEED = 0.02  # of the time; medians of a quiet machine repeat to about that


@dataclass(frozen=True)
class Measured:
    """What was seen of a network with some nodes left in float.

    Attributes:
        drop: of accuracy; infinite where the network could not be judged.
        interval: of the drop, None where there is none.
        ms: time per person; None where nothing here runs int8, and multiply-accumulates say what is cheap.
    """

    drop: float
    interval: tuple[float, float] | None = None
    ms: float | None = None


@dataclass(frozen=True)
class Step:
    """One measured point.

    Attributes:
        blocks: names of those left in float.
        float_nodes: names of their nodes.
        float_macs: their share of the network's multiply-accumulates.
        measured: what was seen.
    """

    blocks: tuple[str, ...]
    float_nodes: tuple[str, ...]
    float_macs: float
    measured: Measured


@dataclass(frozen=True)
class Found:
    """The cheapest step that holds the target, and every step that was measured, fewest float operations first."""

    best: Step
    curve: tuple[Step, ...]


def search(
    blocks: Sequence[Block],
    measure: Callable[[tuple[str, ...]], Measured],
    max_drop: float,
    progress: Callable[[Step], None] | None = None,
) -> Found:
    """Find which blocks must stay in float.

    Args:
        blocks: as `sensitivity` gives them.
        measure: what is seen of the network with these nodes left in float.
        max_drop: the drop that is allowed, in the unit of `measure`.
        progress: called with each measured step.

    Raises:
        GateError: even one block in int8 loses more than that; the message says how near it came.
    """
    steps: dict[frozenset[str], Step] = {}

    def holds(left: Sequence[Block]) -> bool:
        key = frozenset(block.name for block in left)
        if key not in steps:
            nodes = tuple(name for block in left for name in block.nodes)
            macs = sum(block.macs for block in left)
            steps[key] = Step(tuple(block.name for block in left), nodes, macs, measure(nodes))
            if progress is not None:
                progress(steps[key])
        return steps[key].measured.drop <= max_drop

    by_price = sorted(blocks, key=lambda b: -b.loss / max(b.macs, 1e-9))
    count = _fewest(by_price, holds, 0, len(blocks) - 1)  # all of them would be no int8 network
    if count is None:
        nearest = min(steps.values(), key=lambda s: s.measured.drop)
        raise GateError(
            f"no int8 network keeps the drop within {max_drop:g}: the best of {len(steps)} measured falls by "
            f"{nearest.measured.drop:.4g}, with {len(nearest.blocks)} of {len(blocks)} blocks in float "
            f"({nearest.float_macs:.1%} of the multiply-adds). Allow more (--max-drop), or use fp16."
        )
    if count:
        by_loss = sorted(blocks, key=lambda b: -b.loss)
        limit = sum(block.macs for block in by_price[:count])
        cheaper = sum(macs < limit for macs in itertools.accumulate(block.macs for block in by_loss))
        _fewest(by_loss, holds, 1, cheaper)
    curve = sorted(steps.values(), key=lambda s: (s.float_macs, len(s.blocks)))
    return Found(_cheapest([s for s in curve if s.measured.drop <= max_drop]), tuple(curve))


def _fewest(order: Sequence[Block], holds: Callable[[Sequence[Block]], bool], least: int, most: int) -> int | None:
    """The shortest beginning of an order that holds, between two lengths; None where not even the longest does."""
    low, high = least - 1, least  # low fails, high is to be tried
    if high > most:
        return None
    while not holds(order[:high]):
        if high >= most:
            return None
        low, high = high, min(2 * high + 1, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(order[:middle]) else (middle, high)
    return high


def _cheapest(steps: Sequence[Step]) -> Step:
    """The fastest; of those that time cannot tell apart, the one with the fewest float operations."""
    times = [s.measured.ms for s in steps]
    known = [t for t in times if t is not None]
    if len(known) == len(steps):
        steps = [s for s, t in zip(steps, known, strict=True) if t <= min(known) * (1 + _SAME_SPEED)]
    return min(steps, key=lambda s: (s.float_macs, len(s.blocks)))
