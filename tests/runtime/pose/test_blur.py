"""The blur against OpenCV's."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from posert.runtime.pose.blur import blur, blur_matrix, blurred_windows, gaussian

BORDERS = {"zero": cv2.BORDER_CONSTANT, "reflect": cv2.BORDER_REFLECT_101}


@pytest.mark.parametrize("size", range(1, 25, 2))
def test_kernels_are_those_of_opencv(size: int) -> None:
    np.testing.assert_allclose(gaussian(size), cv2.getGaussianKernel(size, 0)[:, 0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("size", [5, 11, 17])
def test_blur_is_that_of_opencv(size: int, border: str) -> None:
    maps = np.random.default_rng(size).normal(size=(3, 20, 12)).astype(np.float32)
    seen = blur(maps, size, border)
    for one, map_ in zip(seen, maps.astype(np.float64), strict=True):
        expected = cv2.GaussianBlur(map_, (size, size), 0, borderType=BORDERS[border])
        np.testing.assert_allclose(one, expected, rtol=0, atol=1e-12)


def test_windows_and_margins_are_of_the_whole_blurred_map() -> None:
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(40, 9, 7)).astype(np.float32)
    x, y = rng.integers(0, 7, 40), rng.integers(0, 9, 40)
    whole = np.pad(blur(maps, 11, "reflect"), ((0, 0), (2, 2), (2, 2)), mode="edge")
    windows = blurred_windows(maps, x, y, 11, "reflect", 2)
    for one, window, i, j in zip(whole, windows, y, x, strict=True):
        np.testing.assert_allclose(window, one[i : i + 5, j : j + 5], rtol=0, atol=1e-14)
    wide = blur(np.pad(maps, ((0, 0), (4, 4), (4, 4))), 5, "zero")
    np.testing.assert_allclose(blur(maps, 5, "zero", margin=4), wide, rtol=0, atol=1e-14)


def test_a_map_smaller_than_the_kernel_reflects_back_and_forth() -> None:
    for size in (1, 2, 3):
        matrix = blur_matrix(size, 17, "reflect")
        np.testing.assert_allclose(matrix.sum(axis=1), 1)
        row = np.arange(size) + 1.0
        expected = cv2.filter2D(np.pad(row, 8, mode="reflect" if size > 1 else "edge")[None], -1, gaussian(17)[None])
        np.testing.assert_allclose(matrix @ row, expected[0, 8 : 8 + size], rtol=1e-12)
