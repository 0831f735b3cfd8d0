"""Observers against numpy on all values at once; they depend neither on order nor on batches, and survive JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posert.calib.observers import BINS, OCTAVES, PER_OCTAVE, Observer


def streams(data, count=None):
    """Batches of maps (n, 3, 4, 5) of very different size."""
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=count or 1, max_size=count or 6))
    exponents = data.draw(st.lists(st.integers(-20, 20), min_size=len(sizes), max_size=len(sizes)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    size = np.float32(2.0) ** rng.integers(-3, 4, (3, 1, 1)).astype(np.float32)
    return [
        np.float32(2.0**e) * size * rng.standard_normal((n, 3, 4, 5)).astype(np.float32)
        for n, e in zip(sizes, exponents, strict=True)
    ]


def observed(parts):
    seen = Observer()
    for part in parts:
        assert seen.update(part)
    return seen


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_it_is_what_numpy_counts(data):
    parts = streams(data)
    seen = observed(parts)
    values = np.concatenate(parts).transpose(1, 0, 2, 3).reshape(3, -1)
    assert np.array_equal(seen.lo, np.minimum(values.min(axis=1), 0))
    assert np.array_equal(seen.hi, np.maximum(values.max(axis=1), 0))
    assert seen.nonzero == np.count_nonzero(values)
    for c in range(3):
        octaves = 2.0 ** np.arange(seen.top[c] - OCTAVES, seen.top[c])
        edges = np.append((octaves[:, None] * (1 + np.arange(PER_OCTAVE) / PER_OCTAVE)).ravel(), 2.0 ** seen.top[c])
        assert edges[-1] / 2 <= np.abs(values[c]).max() < edges[-1]
        for k, sign in enumerate((1, -1)):
            # numpy's last bin holds its upper edge, which no value reaches
            assert np.array_equal(seen.counts[k, c], np.histogram(sign * values[c].astype(np.float64), edges)[0])


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_an_axis_of_other_lengths_is_no_axis_of_channels(data):
    """As of attention, where the people of a batch may be on the second axis: one channel then, as of a flat stream."""
    parts = [part.swapaxes(0, 1) for part in [*streams(data), np.ones((5, 3, 4, 5), np.float32)]]
    parts = [part for part in parts if part.shape[1] != 5] + parts[-1:]
    flat = observed([part.reshape(-1) for part in parts]).to_json()
    assert observed(parts).to_json() == flat
    first, last = observed(parts[:-1]), observed(parts[-1:])
    first.merge(last)
    assert first.to_json() == flat


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_neither_order_nor_batches_matter(data):
    parts = streams(data)
    state = observed(parts).to_json()
    assert observed(reversed(parts)).to_json() == state
    assert observed([np.concatenate(parts)]).to_json() == state


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_absorbing_is_seeing_both_streams(data):
    first, second = streams(data, 2)
    a, b, empty = observed([first]), observed([second]), Observer()
    before = b.to_json()
    a.merge(b)
    assert a.to_json() == observed([first, second]).to_json()
    assert b.to_json() == before, "the other one stays as it was"
    empty.merge(b)
    assert empty.to_json() == before


def test_other_tensors_have_one_channel():
    rows = np.random.default_rng(0).standard_normal((2, 7, 5)).astype(np.float32)
    seen = observed([rows])
    assert seen.lo.shape == (1,) and seen.hi[0] == rows.max() and seen.lo[0] == rows.min()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_adds_nothing(bad):
    seen = observed([np.ones((1, 2, 3, 3), np.float32)])
    before = seen.to_json()
    values = np.ones((1, 2, 3, 3), np.float32)
    values[0, 1, 1, 1] = bad
    assert not seen.update(values) and seen.to_json() == before


def test_what_was_kept_survives_json():
    seen = observed([np.random.default_rng(0).standard_normal((2, 3, 9, 9)).astype(np.float32) * 1e-3])
    other = Observer()
    other.load_json(json.loads(json.dumps(seen.to_json())))
    assert vars(seen).keys() == vars(other).keys()
    assert all(np.array_equal(vars(seen)[k], vars(other)[k]) for k in vars(seen))
    assert other.counts.shape == (2, 3, BINS)


@pytest.mark.parametrize(
    "change",
    [{"channels": "x"}, {"channels": 2}, {"channels": 0}, {"nonzero": -1}, {"state": "AAAA"}, {"state": "not base64"}],
)
def test_what_no_observer_keeps_is_refused(change):
    values = observed([np.ones((1, 3, 2, 2), np.float32)]).to_json()
    Observer().load_json(values)
    with pytest.raises((ValueError, KeyError, TypeError)):
        Observer().load_json({**values, **change})
