"""From what an observer saw to a range: against a search over the values themselves."""

from __future__ import annotations

import numpy as np
import pytest

from posert.calib.clipping import CLIPPED_WEIGHT, find_range
from posert.calib.observers import Observer

SHARES = np.linspace(1.0, 0.2, 81)


def observed(values):
    seen = Observer()
    assert seen.update(np.asarray(values, np.float32))
    return seen


def loss(values, lo, hi, unsigned):
    step = (hi - lo) / 255 if unsigned else max(hi, -lo) / 127
    clipped = np.clip(values, lo, hi) - values
    return np.count_nonzero(values) * step**2 / 12 + CLIPPED_WEIGHT * float((clipped**2).sum())


@pytest.fixture(scope="module")
def maps():
    """(4, 6, 40, 40), heavy-tailed, channels of very different size; one is dead."""
    rng = np.random.default_rng(0)
    size = np.array([1, 8, 0.1, 0, 3, 0.5]).reshape(-1, 1, 1)
    return (rng.standard_t(4, (4, 6, 40, 40)) * size).astype(np.float32)


@pytest.mark.parametrize("unsigned", [True, False])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("scaled", [True, False])
def test_it_is_the_best_of_a_search_over_the_values(maps, unsigned, relu, scaled):
    values = np.maximum(maps, 0) if relu else maps
    scale = np.array([0.4, 1, 0.1, 1, 0.7, 0.3], np.float32) if scaled else None
    divided = values if scale is None else values / scale.reshape(-1, 1, 1)
    found = find_range(observed(values), scale, unsigned)
    lo, hi = min(float(divided.min()), 0.0), float(divided.max())
    tried = {share: loss(divided, lo * share, hi * share, unsigned) for share in SHARES}
    got = loss(divided, found.lo, found.hi, unsigned)
    # A bin is 6 % wide, and all its values count as its middle: distances beyond an end are known to that.
    assert got <= 1.03 * min(tried.values())


def test_signed_steps_are_coarser_and_clip_more():
    values = np.maximum(np.random.default_rng(1).laplace(size=(1, 1, 400, 400)), 0)
    seen = observed(values)
    assert find_range(seen, unsigned=False).hi < find_range(seen).hi < values.max()


def test_values_without_a_tail_are_not_clipped():
    seen = observed(np.random.default_rng(0).uniform(-1, 2, (2, 3, 30, 30)))
    found = find_range(seen)
    assert found.lo == pytest.approx(-1, abs=0.02) and found.hi == pytest.approx(2, abs=0.03)


def test_nothing_but_zero():
    found = find_range(observed(np.zeros((1, 2, 3, 3))))
    assert (found.lo, found.hi) == (0.0, 0.0)
