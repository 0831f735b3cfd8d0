"""Savitzky-Golay against scipy, with weights against numpy's polynomial fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import savgol_filter

from posert.runtime.errors import InputError
from posert.runtime.smoothing import savitzky_golay


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 30), st.integers(0, 2**31))
def test_against_scipy(half: int, order: int, more: int, seed: int) -> None:
    """Edges included."""
    window, order = 2 * half + 1, min(order, 2 * half)
    values = np.random.default_rng(seed).normal(0, 100, (window + more, 3, 2))
    expected = savgol_filter(values, window, order, axis=0, mode="interp")
    # the fit's matrix has a condition of up to 1e6 for a polynomial of order 5
    np.testing.assert_allclose(savitzky_golay(values, window, order), expected, rtol=0, atol=1e-6)


def test_weights_against_polyfit() -> None:
    rng = np.random.default_rng(0)
    values, weight = rng.normal(0, 10, 20), rng.uniform(0.1, 1, 20)
    weight[[4, 9, 10]] = 0
    seen = savitzky_golay(values, 7, 2, weight)
    for t in range(20):
        first = min(max(t - 3, 0), 13)
        near = np.arange(first, first + 7)
        fit = np.polyfit(near - t, values[near], 2, w=np.sqrt(weight[near]))
        np.testing.assert_allclose(seen[t], fit[-1], rtol=1e-9)


def test_a_parabola_is_kept() -> None:
    """Zero lag: whatever moves like a polynomial of the order stays where it is."""
    t = np.arange(30.0)
    values = 3 + 2 * t - 0.1 * t**2
    np.testing.assert_allclose(savitzky_golay(values, 7, 2), values, rtol=1e-9)
    holes = values.copy()
    holes[[3, 11, 12]] = np.nan
    np.testing.assert_allclose(savitzky_golay(holes, 7, 2), values, rtol=1e-9)


def test_too_few_values() -> None:
    """A polynomial of a lower order where there are not enough; NaN where there is none."""
    np.testing.assert_allclose(savitzky_golay([5.0]), [5.0])
    np.testing.assert_allclose(savitzky_golay([5.0, 7.0]), [5.0, 7.0])
    values = np.full(12, np.nan)
    values[1] = 4.0
    seen = savitzky_golay(values, 5)
    assert (seen[:4] == 4).all() and np.isnan(seen[4:]).all()
    assert savitzky_golay(np.zeros((0, 3))).shape == (0, 3)


def test_refusals() -> None:
    for window, order in ((4, 2), (3, 3), (0, 0), (5, -1)):
        with pytest.raises(InputError, match="odd window above the order"):
            savitzky_golay(np.zeros(9), window, order)
    with pytest.raises(InputError, match="weights must be"):
        savitzky_golay(np.zeros(9), weight=np.ones(8))
    with pytest.raises(InputError, match="from 0 on"):
        savitzky_golay(np.zeros(9), weight=np.full(9, -1.0))
