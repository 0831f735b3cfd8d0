"""The usual mistakes in a contract: what else it might say, one thing at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from ...runtime.bundle.contract import Contract
from ...runtime.pose.heads import HEADS, head

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_PIXELS = (
    ("ImageNet's mean and std", *IMAGENET),
    ("pixels of 0..255 as they are", (0.0,) * 3, (1 / 255,) * 3),
    ("pixels of 0..1, not normalised", (0.0,) * 3, (1.0,) * 3),
    ("pixels of -1..1", (0.5,) * 3, (0.5,) * 3),
)
_PADDINGS = {1.0: "boxes are not padded", 1.25: "boxes are padded once", 1.25**2: "boxes are padded twice"}
_LARGEST_STD, _SMALLEST_STD = 2.0, 0.02  # of pixels of 0..1: beyond them the numbers are of 0..255, or divided twice
_KEPT = 0.9  # a joint keeps its name unless another label is nearer than this share of the distance to its own

Joints = NDArray[np.float64]


@dataclass(frozen=True)
class Alternative:
    """One thing that a contract might say instead.

    Attributes:
        kind: "colours", "pixels", "padding", "crop and map", "decoding", "joints" or "flip test".
        words: what would be the case.
        contract: with this one thing changed.
        order: for each channel the label, by its number in the given contract, that it would be; empty: as given.
    """

    kind: str
    words: str
    contract: Contract
    order: tuple[int, ...] = ()


def of_input(c: Contract) -> Iterator[Alternative]:
    """What would change the crop that the network sees."""
    other = "BGR" if c.model_color == "RGB" else "RGB"
    yield Alternative("colours", f"the network takes {other}", replace(c, model_color=other))
    guesses = list(_PIXELS)
    if min(c.std) > _LARGEST_STD:
        guesses.append(("mean and std are of 0..255", _scaled(c.mean, 1 / 255), _scaled(c.std, 1 / 255)))
    if max(c.std) < _SMALLEST_STD:
        guesses.append(("mean and std were divided by 255 twice", _scaled(c.mean, 255), _scaled(c.std, 255)))
    known = [np.array([c.mean, c.std])]
    for words, mean, std in guesses:
        if not any(np.allclose([mean, std], other, rtol=0.02) for other in known):
            known.append(np.array([mean, std]))
            yield Alternative("pixels", words, replace(c, mean=mean, std=std))
    for padding, words in _PADDINGS.items():
        if abs(padding / c.padding - 1) > 0.02:
            yield Alternative("padding", words, replace(c, padding=padding))
    for words, crop, map_udp in (
        (f"crop and map {_spans(not c.udp)}", not c.udp, not c.map_udp),
        (f"crop {_spans(not c.udp)}, map {_spans(c.map_udp)}", not c.udp, c.map_udp),
    ):
        yield Alternative("crop and map", words, _with_udp(c, crop, map_udp))


def of_outputs(c: Contract) -> Iterator[Alternative]:
    """What would change how the same outputs are read."""
    words = f"crop {_spans(c.udp)}, map {_spans(not c.map_udp)}"
    yield Alternative("crop and map", words, _with_udp(c, c.udp, not c.map_udp))
    shapes = head(c.decode).shapes(c)
    for name in HEADS.names():
        if name != c.decode and head(name).shapes(c) == shapes:
            yield Alternative("decoding", f"the decode rule {name}", replace(c, decode=name))


def of_flip_test(c: Contract, pairs: Sequence[tuple[int, int]]) -> Iterator[Alternative]:
    """What would change how the mirrored outputs are merged; `pairs` are those that mirror images show."""
    if len(head(c.decode).shapes(c)[0]) == 3:  # vectors are never moved
        words = f"the mirrored map {'stays' if c.flip_shift else 'moves by one cell'}"
        yield Alternative("flip test", words, replace(c, flip_shift=not c.flip_shift))
    if {frozenset(p) for p in pairs} != {frozenset(p) for p in c.flip_pairs}:
        yield Alternative("flip test", "other joints swap in a mirror image", replace(c, flip_pairs=tuple(pairs)))


def exchanged(c: Contract) -> Alternative | None:
    """Left and right exchanged; None where nothing has a side."""
    order = c.flip_index
    return Alternative("joints", "left and right exchanged", reordered(c, order), order) if c.flip_pairs else None


def reordered(c: Contract, order: Sequence[int]) -> Contract:
    """The contract with its joints in another order: channel j is what was called `keypoints[order[j]]`."""
    channel = {label: j for j, label in enumerate(order)}

    def pairs(old: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        new = tuple((channel[a], channel[b]) for a, b in old)
        return old if {frozenset(p) for p in new} == {frozenset(p) for p in old} else new

    return replace(
        c,
        keypoints=tuple(c.keypoints[label] for label in order),
        flip_pairs=pairs(c.flip_pairs),
        skeleton=pairs(c.skeleton),
        sigmas=tuple(c.sigmas[label] for label in order) if c.sigmas else (),
    )


def best_order(distance: Joints) -> tuple[int, ...]:
    """The one-to-one assignment of channels to labels with the least distance `(channels, labels)`.

    NaN: the label is on nobody. Joints that lie close together keep their order, see `_KEPT`.
    """
    cost = np.where(np.isnan(distance), np.nanmax(distance, initial=0.0), distance)
    cost[np.diag_indices_from(cost)] *= _KEPT
    return tuple(linear_sum_assignment(cost)[1].tolist())


def lines(before: Contract, after: Contract) -> tuple[str, ...]:
    """The lines of contract.yaml in which the second differs from the first."""
    names = [f.name for f in fields(Contract) if getattr(before, f.name) != getattr(after, f.name)]
    return tuple(f"{name}: {_yaml(getattr(after, name))}" for name in names)


def _yaml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else "null" if value is None else str(value)


def _scaled(values: Sequence[float], factor: float) -> tuple[float, float, float]:
    a, b, c = (round(v * factor, 9) for v in values)
    return a, b, c


def _with_udp(c: Contract, crop: bool, map_udp: bool) -> Contract:
    return replace(c, udp=crop, heatmap_udp=None if crop == map_udp else map_udp)


def _spans(udp: bool) -> str:
    return "by UDP" if udp else "plain"
