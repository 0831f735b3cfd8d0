"""From frames to inputs and back."""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posert.runtime.detection.picture import InputBuffer, Picture, fit

SIDES = st.integers(1, 2000)
PLACES: list[Literal["top_left", "center", "stretch"]] = ["top_left", "center", "stretch"]


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@given(SIDES, SIDES, st.sampled_from(PLACES), st.sampled_from(["down", "even", "half_up"]), st.booleans())
def test_a_frame_lies_inside(height: int, width: int, placement: Any, rounding: Any, one_ratio: bool) -> None:
    picture = Picture(placement=placement, rounding=rounding, one_ratio=one_ratio)
    found = fit(picture, (height, width), (320, 640))
    assert found.left >= 0 and found.top >= 0
    assert 1 <= found.width <= 640 - found.left and 1 <= found.height <= 320 - found.top
    less = rounding == "down"  # YOLOX's 1245 * (640 / 1245) is 639.99...
    assert found.width >= 640 - less or found.height >= 320 - less
    if not one_ratio:  # then the frame's corners are those of its place exactly
        whole = np.array([[found.left, found.top, found.left + found.width, found.top + found.height]], np.float32)
        np.testing.assert_allclose(found.to_frame(whole), [[0, 0, width, height]], rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("placement", PLACES)
@pytest.mark.parametrize("shape", [(120, 100), (64, 96), (30, 200), (1, 300), (128, 192)])
def test_pixels(placement: Any, shape: tuple[int, int]) -> None:
    frame = noise(*shape)
    buffer = InputBuffer(Picture("rgb", placement, 1 / 255), (64, 96), "float32")
    where = buffer.fill(frame)
    inside = (slice(where.top, where.top + where.height), slice(where.left, where.left + where.width))
    resized = cv2.resize(frame, (where.width, where.height), interpolation=cv2.INTER_LINEAR)
    expected = np.full((64, 96, 3), 114, np.uint8)
    expected[inside] = resized
    np.testing.assert_allclose(buffer.array[0], expected[..., ::-1].transpose(2, 0, 1) / 255, atol=1e-7)


def test_values() -> None:
    frame = noise(64, 96)
    mean, std = (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)
    buffer = InputBuffer(Picture("bgr", "stretch", 0.5, mean, std), (64, 96), "float32")
    buffer.fill(frame)
    np.testing.assert_allclose(buffer.array[0], ((frame * 0.5 - mean) / std).transpose(2, 0, 1), rtol=1e-6)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_types(dtype: str, channels_last: bool) -> None:
    frame = noise(64, 96)
    buffer = InputBuffer(Picture("rgb", "stretch"), (64, 96), dtype, channels_last)
    buffer.fill(frame)
    pixels = frame[..., ::-1] if channels_last else frame[..., ::-1].transpose(2, 0, 1)
    assert buffer.array.dtype == dtype and buffer.array.flags.c_contiguous
    np.testing.assert_array_equal(buffer.array[0], pixels)


def test_frames_of_other_sizes_leave_nothing_behind() -> None:
    buffer = InputBuffer(Picture("bgr", "center"), (64, 64), "float32")
    buffer.fill(noise(64, 64))
    buffer.fill(noise(10, 60))
    fresh = InputBuffer(Picture("bgr", "center"), (64, 64), "float32")
    fresh.fill(noise(10, 60))
    np.testing.assert_array_equal(buffer.array, fresh.array)


def test_a_frame_that_is_a_view() -> None:
    wide = noise(50, 120)
    view = wide[::2, 20:100:2]
    buffers = [InputBuffer(Picture("bgr", "top_left"), (64, 64), "float32") for _ in range(2)]
    buffers[0].fill(view)
    buffers[1].fill(np.ascontiguousarray(view))
    np.testing.assert_array_equal(buffers[0].array, buffers[1].array)


@pytest.mark.parametrize("shape", [(480, 640), (1080, 1920), (333, 517)])
def test_near_to_pillow(shape: tuple[int, int]) -> None:
    """RT-DETR and DETR resize with Pillow, which averages when it makes a picture smaller. On a smooth picture OpenCV
    comes near; how near is a fact to know, not a bound to tune."""
    image = pytest.importorskip("PIL.Image")
    frame = cv2.resize(noise(9, 16), shape[::-1], interpolation=cv2.INTER_CUBIC)
    buffer = InputBuffer(Picture("bgr", "stretch"), (640, 640), "float32")
    buffer.fill(frame)
    theirs = np.asarray(image.fromarray(frame).resize((640, 640), image.Resampling.BILINEAR), np.float32)
    assert np.abs(buffer.array[0].transpose(1, 2, 0) - theirs).mean() < 0.5  # of 255
