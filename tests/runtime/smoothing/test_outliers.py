"""Hampel's filter against its definition, and straight lines against numpy.interp."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posert.runtime.errors import InputError
from posert.runtime.smoothing import fill_gaps, hampel


@given(st.integers(0, 30), st.integers(0, 4), st.floats(0.5, 5), st.integers(0, 2**31))
def test_hampel(frames: int, half: int, deviations: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 6, frames) + rng.random(frames) * 0.1
    values[rng.random(frames) < 0.1] *= 20
    values[rng.random(frames) < 0.2] = np.nan
    expected = np.zeros(frames, np.bool_)
    for t in np.flatnonzero(np.isfinite(values)):
        near = values[max(t - half, 0) : t + half + 1]
        middle = np.nanmedian(near)
        expected[t] = abs(values[t] - middle) > deviations * 1.4826 * np.nanmedian(np.abs(near - middle))
    np.testing.assert_array_equal(hampel(values, 2 * half + 1, deviations), expected)
    columns = np.stack([values, values[::-1]], axis=1)
    np.testing.assert_array_equal(hampel(columns, 2 * half + 1, deviations)[:, 0], expected)


def test_a_jump_is_an_outlier_and_a_step_is_none() -> None:
    walk = np.arange(20) * 3.0
    walk[7] += 40
    assert np.flatnonzero(hampel(walk)).tolist() == [7]
    assert not hampel(np.repeat([0.0, 50.0], 10)).any()


@given(st.integers(1, 30), st.integers(0, 6), st.integers(0, 2**31))
def test_lines_across_gaps(frames: int, longest: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 10, frames)
    values[rng.random(frames) < 0.5] = np.nan
    known = np.flatnonzero(np.isfinite(values))
    expected = values.copy()
    for first, last in zip(known[:-1], known[1:], strict=True):
        if last - first - 1 <= longest:
            between = np.arange(first + 1, last)
            expected[between] = np.interp(between, [first, last], values[[first, last]])
    np.testing.assert_allclose(fill_gaps(values, longest), expected)
    np.testing.assert_allclose(fill_gaps(np.stack([values, values]).T, longest)[:, 1], expected)


def test_refusals_and_nothing() -> None:
    with pytest.raises(InputError, match="odd"):
        hampel(np.zeros(5), window=4)
    assert hampel(np.zeros((0, 2))).shape == fill_gaps(np.zeros((0, 2)), 3).shape == (0, 2)
