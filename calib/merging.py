"""Merging calibration caches: parts of the people calibrated in separate runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..runtime.errors import CalibrationError
from .cache import CalibrationCache
from .calibrated import Calibrated, with_channels
from .observers import Observer
from .ranges import CalibrationState, Ranges, mean_change


def merge_caches(parts: Sequence[tuple[str, CalibrationCache]]) -> CalibrationCache:
    """Put caches of parts of the people together.

    Extremes and counts are merged, so the ranges are those of one run. The factors of the channels, and the roundings,
    are those of the part with the most people. The curve's one point is the change from the ranges of the first part.

    Args:
        parts: (file name for messages, cache); two or more.

    Raises:
        CalibrationError: graphs or tensors differ, a part is unfinished, or two share a set or images.
    """
    (first_name, first), *others = parts
    sets = list(first.sets)
    owner = dict.fromkeys(_images(first), first_name)
    for name, other in others:
        other.check_graph(first.graph, name)
        if other.state.observers.keys() != first.state.observers.keys():
            raise CalibrationError(
                f"{name} holds {len(other.state.observers)} tensors, {first_name} holds {len(first.state.observers)}; "
                "only caches of the same tensors can be merged"
            )
        known = {one["sha256"] for one in sets}
        twice = [one["sha256"] for one in other.sets if one["sha256"] in known]
        if twice:
            raise CalibrationError(f"{name}: its calibration set {twice[0]} is already in another file to merge")
        images = _images(other)
        both = [sha256 for sha256 in images if sha256 in owner]
        if both:
            raise CalibrationError(
                f"{name}: {len(both)} of its {len(images)} images are also in {owner[both[0]]}, such as "
                f"{images[both[0]]!r} (sha256 {both[0]}), and their people would count twice. Use separate images for "
                "each file, or calibrate once on all people"
            )
        owner |= dict.fromkeys(images, name)
        sets += other.sets
    finished: list[tuple[int, Calibrated]] = []
    for name, part in parts:
        finished.append((part.state.crops, part.result(name)))
    observers = {tensor: Observer() for tensor in first.state.observers}
    for tensor in observers:
        for _, part in parts:
            observers[tensor].merge(part.state.observers[tensor])
    crops = sum(count for count, _ in finished)
    _, largest = max(finished, key=lambda one: one[0])
    before = with_channels(first.state.observers, largest.channels, ())
    now = with_channels(observers, largest.channels, (), largest.rounded)
    curve = [(crops, mean_change(before.ranges, now.ranges))]
    state = CalibrationState(crops, curve=curve, observers=observers)
    found = replace(now, ranges=Ranges(now.ranges, curve))
    return replace(first, sets=tuple(sets), state=state, calibrated=found)


def _images(cache: CalibrationCache) -> dict[str, str]:
    """File names by sha256. The cache does not say which people of an image were sampled, so a shared image counts as
    shared people."""
    return {file["sha256"]: name for one in cache.sets for name, file in one["files"].items()}
