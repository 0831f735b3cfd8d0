"""The fewest blocks to leave in float so that accuracy falls by no more than it may.

Blocks are left in float in the order of what they cost in keypoints per multiply-accumulate. Along this order the drop
falls, so its length is found by halving: a network of fifty blocks takes about seven measurements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..runtime.errors import GateError
from .sensitivity import Block


@dataclass(frozen=True)
class Step:
    """One measured point.

    Attributes:
        float_nodes: names of the nodes left in float.
        blocks: how many blocks these are.
        float_macs: their share of the network's multiply-accumulates.
        drop: of accuracy, as measured.
    """

    float_nodes: tuple[str, ...]
    blocks: int
    float_macs: float
    drop: float


@dataclass(frozen=True)
class Found:
    """The cheapest step that holds the target, and every step that was measured, fewest float nodes first."""

    best: Step
    curve: tuple[Step, ...]


def search(
    blocks: Sequence[Block],
    measure: Callable[[tuple[str, ...]], float],
    max_drop: float,
    progress: Callable[[Step], None] | None = None,
) -> Found:
    """Find how many blocks must stay in float.

    Args:
        blocks: as `sensitivity` gives them.
        measure: the drop of accuracy of the network with these nodes left in float.
        max_drop: the drop that is allowed, in the unit of `measure`.
        progress: called with each measured step.

    Raises:
        GateError: even one block in int8 loses more than that; the message says how near it came.
    """
    order = sorted(blocks, key=lambda b: -b.loss / max(b.macs, 1e-9))
    steps: dict[int, Step] = {}

    def holds(count: int) -> bool:
        left = order[:count]
        nodes = tuple(name for block in left for name in block.nodes)
        steps[count] = Step(nodes, count, sum(b.macs for b in left), measure(nodes))
        if progress is not None:
            progress(steps[count])
        return steps[count].drop <= max_drop

    most = len(order) - 1  # all of them would be no int8 network
    low, high = -1, 0  # low fails, high is to be tried
    while not holds(high):
        if high >= most:
            nearest = min(steps.values(), key=lambda s: s.drop)
            raise GateError(
                f"no int8 network keeps the drop within {max_drop:g}: the best of {len(steps)} measured falls by "
                f"{nearest.drop:.4g}, with {nearest.blocks} of {len(order)} blocks in float. Allow more "
                "(--max-drop), or use fp16."
            )
        low, high = high, min(2 * high + 1, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return Found(steps[high], tuple(steps[k] for k in sorted(steps)))
