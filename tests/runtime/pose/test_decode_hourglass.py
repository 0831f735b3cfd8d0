"""The stacked hourglass' decode against its repository's rule, written once more joint by joint."""

from __future__ import annotations

import numpy as np

from posert.runtime.bundle.contract import Contract
from posert.runtime.pose.decode import decode


def hourglass(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    _, joints, height, width = maps.shape
    names = tuple(map(str, range(joints)))
    return decode((maps,), Contract("test", names, (), (), (0.1,) * joints, 64, 64, width, height, decode="hourglass"))


def by_the_joint(heat: np.ndarray) -> tuple[float, float]:
    """The highest cell, a quarter towards the higher neighbour (away from it where they are equal), half added."""
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    last_row, last_column = heat.shape[0] - 1, heat.shape[1] - 1
    x, y = column + 0.5, row + 0.5
    x += 0.25 if heat[row, min(column + 1, last_column)] > heat[row, max(column - 1, 0)] else -0.25
    y += 0.25 if heat[min(row + 1, last_row), column] > heat[max(row - 1, 0), column] else -0.25
    return x, y


def test_equals_the_rule_on_every_joint_and_border():
    maps = np.random.default_rng(0).uniform(0, 0.5, (3, 40, 5, 4)).astype(np.float32)
    for i in range(20):  # a peak in every cell
        maps[0, i].flat[i] = 0.9
    xy, score = hourglass(maps)
    expected = [[by_the_joint(heat) for heat in person] for person in maps]
    np.testing.assert_array_equal(xy, np.array(expected, np.float32))
    np.testing.assert_array_equal(score, maps.max(axis=(2, 3)))


def test_values_above_one_count_as_one_and_equal_neighbours_as_downhill():
    heat = np.zeros((1, 1, 8, 8), np.float32)
    heat[0, 0, 3, 4], heat[0, 0, 6, 6] = 1.0, 7.0
    xy, score = hourglass(heat)
    assert xy[0, 0].tolist() == [4.25, 3.25] and score[0, 0] == 1


def test_an_empty_map_has_no_joint():
    xy, score = hourglass(np.zeros((1, 1, 8, 8), np.float32))
    assert xy[0, 0].tolist() == [-1, -1] and score[0, 0] == 0
