"""Who belongs to whom: pairs of rows and columns of a matrix whose values add up to the most."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Double = NDArray[np.float64]
Index = NDArray[np.intp]


def best_pairs(value: Double) -> tuple[Index, Index]:
    """The pairs with the highest sum of values; each row and each column is in one pair at most.

    Args:
        value: `(N, M)`, of pairing a row with a column. Pairs whose value is not above 0 are never made.

    Returns:
        `(P,)` rows, ascending, and `(P,)` their columns.
    """
    allowed = value > 0
    # Most people stand apart: a row and a column that can only have each other are a pair without any search.
    alone = allowed & (allowed.sum(axis=1) == 1)[:, None] & (allowed.sum(axis=0) == 1)
    rows, columns = np.nonzero(alone)
    contested = allowed & ~alone
    if contested.any():
        r, c = np.flatnonzero(contested.any(axis=1)), np.flatnonzero(contested.any(axis=0))
        cost = -np.where(contested, value, 0)[np.ix_(r, c)]
        if len(r) <= len(c):
            more, theirs = r, c[_cheapest_columns(cost)]
        else:
            more, theirs = r[_cheapest_columns(cost.T)], c
        real = contested[more, theirs]
        rows, columns = np.concatenate([rows, more[real]]), np.concatenate([columns, theirs[real]])
    order = np.argsort(rows)
    return rows[order], columns[order]


def _cheapest_columns(cost: Double) -> Index:
    """`(N,)` a column of its own for each row of a finite `(N, M)` with N <= M, at the lowest total cost.

    Shortest augmenting paths: Crouse, "On implementing 2D rectangular assignment algorithms", IEEE TAES 2016.
    """
    n, m = cost.shape
    u, v = np.zeros(n), np.zeros(m)  # dual variables: cost - u - v >= 0, and 0 at the pairs
    row_of, column_of = np.full(m, -1), np.full(n, -1)
    for first in range(n):
        shortest, before = np.full(m, np.inf), np.full(m, -1)
        done = np.zeros(m, np.bool_)
        visited = []
        row, length, column = first, 0.0, -1
        while row >= 0:
            visited.append(row)
            reach = length + cost[row] - u[row] - v
            shorter = ~done & (reach < shortest)
            shortest[shorter], before[shorter] = reach[shorter], row
            open_ends = np.where(done, np.inf, shortest)
            length = open_ends.min()
            ends = open_ends == length
            free = ends & (row_of < 0)  # of equally short paths one that ends here
            column = int((free if free.any() else ends).argmax())
            done[column] = True
            row = int(row_of[column])
        u[first] += length
        others = np.array(visited[1:], np.intp)
        u[others] += length - shortest[column_of[others]]
        v[done] -= length - shortest[done]
        while True:  # the pairs along the path change places
            row = int(before[column])
            row_of[column] = row
            column_of[row], column = column, int(column_of[row])
            if row == first:
                break
    return column_of
