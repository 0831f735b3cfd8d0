"""Pairs of rows and columns against scipy's assignment."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from posert.runtime.metrics.assignment import best_pairs


def best_sum(value: np.ndarray) -> float:
    """The highest sum that there is; a row or column may stay alone."""
    gain = np.where(value > 0, value, 0)
    rows, columns = linear_sum_assignment(gain, maximize=True)
    return float(gain[rows, columns].sum())


def checked(value: np.ndarray) -> float:
    rows, columns = best_pairs(value)
    assert len(set(rows.tolist())) == len(rows) and len(set(columns.tolist())) == len(columns)
    assert (np.diff(rows) > 0).all()
    assert (value[rows, columns] > 0).all()
    return float(value[rows, columns].sum())


@given(st.integers(0, 12), st.integers(0, 12), st.floats(0, 1), st.booleans(), st.integers(0, 2**31))
def test_the_highest_sum(n: int, m: int, share: float, ties: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    value = rng.integers(0, 4, (n, m)).astype(np.float64) if ties else rng.random((n, m))
    value[rng.random((n, m)) < share] = rng.choice([0.0, -1.0, -np.inf])
    np.testing.assert_allclose(checked(value), best_sum(value), rtol=1e-12)  # sums in another order


@pytest.mark.parametrize("shape", [(100, 100), (100, 37), (37, 100)])
def test_a_crowd(shape: tuple[int, int]) -> None:
    value = np.random.default_rng(0).random(shape)
    np.testing.assert_allclose(checked(value), best_sum(value), rtol=1e-12)


def test_not_greedy() -> None:
    """The highest pair first would leave 0.9 + 0.1."""
    rows, columns = best_pairs(np.array([[0.9, 0.8], [0.8, 0.1]]))
    assert rows.tolist() == [0, 1] and columns.tolist() == [1, 0]


def test_nobody() -> None:
    for shape in ((0, 0), (0, 3), (3, 0), (2, 2)):
        rows, columns = best_pairs(np.zeros(shape))
        assert len(rows) == len(columns) == 0
