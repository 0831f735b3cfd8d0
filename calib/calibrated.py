"""What calibration finds of a network: all that `quantize` needs beside its float32 graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx
from numpy.typing import NDArray

from .clipping import find_range
from .equalise import Scales, channel_scales, equalise
from .graph import Graph
from .observers import Observer, Range
from .placement import place
from .ranges import CalibrationState, Ranges, collect
from .rounding import Rounded, learn_rounding

_MOST = 32  # crops that roundings are learned from. The number of patches is the same with more


@dataclass(frozen=True)
class Calibrated:
    """One calibration for both variants.

    Attributes:
        ranges: by tensor, its channels equalised, in unsigned steps; and how ranges converged.
        signed: the same in symmetric steps.
        channels: by tensor, what its channels are divided by.
        rounded: by layer, the rounding of its weights.
    """

    ranges: Ranges
    signed: Mapping[str, Range]
    channels: Scales = field(default_factory=dict)
    rounded: Mapping[str, Rounded] = field(default_factory=dict)


def calibrate(
    model: onnx.ModelProto,
    crops: Iterable[NDArray[Any]],
    *,
    state: CalibrationState | None = None,
    progress: Callable[[int], None] | None = None,
    rounding: Callable[[int, int], None] = lambda done, total: None,
    threads: int = 0,
) -> Calibrated:
    """Find ranges, channel scales and roundings.

    Args:
        model: the float32 graph, as for `place`.
        crops: batches for its input; the same each time they are iterated over.
        state, progress, threads: as for `collect`.
        rounding: called with (layers done, layers in all) while roundings are learned.

    Raises:
        CalibrationError: as for `place` and `collect`.
    """
    graph = Graph(model)
    placement = place(graph)
    state = state or CalibrationState()
    collect(model, crops, placement.tensors, progress=progress, threads=threads, state=state)
    channels = channel_scales(graph, state.observers)
    found = with_channels(state.observers, channels, state.curve)
    equalise(graph, channels)
    some = _evenly(crops, state.crops)
    rounded = learn_rounding(graph, placement, found.ranges, some, threads=threads, progress=rounding)
    return Calibrated(found.ranges, found.signed, channels, rounded)


def with_channels(
    observers: Mapping[str, Observer],
    channels: Scales,
    curve: Sequence[tuple[int, float]],
    rounded: Mapping[str, Rounded] | None = None,
) -> Calibrated:
    """The ranges of tensors whose channels are divided by these factors."""
    unsigned, signed = (
        {name: find_range(one, channels.get(name), kind) for name, one in observers.items()} for kind in (True, False)
    )
    return Calibrated(Ranges(unsigned, curve), signed, channels, rounded or {})


def _evenly(crops: Iterable[NDArray[Any]], count: int) -> list[NDArray[Any]]:
    """At most `_MOST` of the crops, spread evenly, one by one."""
    step = max(1.0, count / _MOST)
    wanted = {int(k * step) for k in range(min(count, _MOST))}
    found, done = [], 0
    for batch in crops:
        found += [batch[i : i + 1].copy() for i in range(len(batch)) if done + i in wanted]
        done += len(batch)
    return found
