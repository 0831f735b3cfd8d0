"""Crops against MMPose's, to the last bit of a pixel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from posert.runtime.bundle.contract import Contract
from posert.runtime.errors import InputError
from posert.runtime.pose import preprocess
from posert.runtime.pose.decode import to_frame

Golden = Callable[[str], Any]
SIZES = ((192, 256), (288, 384), (256, 256))
WARPS = (preprocess._warp_affine, preprocess._warp_remap, preprocess._warp_fixed_point)


def regions_of(boxes: Any, width: int, height: int, **changes: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The crops of boxes for a network that takes crops of this size."""
    contract = Contract("test", ("a",), (), (), (0.1,), width, height, width // 4, height // 4, **changes)
    return preprocess.crop_regions(preprocess.check_boxes(boxes), contract)


def xyxy(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_centre_and_extent_are_those_of_mmpose(golden: Golden, width: int, height: int) -> None:
    g = golden("a_affine.npz")
    center, extent = regions_of(xyxy(g["boxes_xywh"]), width, height)
    np.testing.assert_array_equal(center, g[f"{height}x{width}_center"])
    np.testing.assert_array_equal(extent, g[f"{height}x{width}_scale"] * np.float32(200))


@pytest.mark.parametrize("udp", [False, True], ids=["plain", "udp"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_matrices_are_those_of_mmpose(golden: Golden, width: int, height: int, udp: bool) -> None:
    g = golden("a_affine.npz")
    key = f"{height}x{width}_"
    ours = preprocess.crop_matrices(g[key + "center"], g[key + "scale"] * np.float32(200), width, height, udp)
    theirs = g[key + ("matrix_udp" if udp else "matrix")].astype(np.float64)
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1.0]]).T
    for a, b in zip(ours, theirs, strict=True):
        source = np.linalg.solve(np.vstack([b, [0, 0, 1]]), corners)
        # px of the crop: MMPose solves a linear system where this divides
        np.testing.assert_allclose(a @ source, corners[:2], rtol=0, atol=2e-5)


@pytest.mark.parametrize("warp", WARPS, ids=lambda w: w.__name__)
@pytest.mark.parametrize("udp", [False, True], ids=["plain", "udp"])
def test_crops_are_those_of_mmpose(
    golden: Golden,
    golden_image: Callable[[int], NDArray[np.uint8]],
    monkeypatch: pytest.MonkeyPatch,
    udp: bool,
    warp: Callable[..., None],
) -> None:
    monkeypatch.setattr(preprocess, "_fastest_warp", lambda: warp)
    g, boxes = golden("a_warp.npz"), golden("inputs.npz")["warp_boxes"]
    for i in range(3):
        center, extent = regions_of(xyxy(boxes[i]), 192, 256)
        crops = preprocess.crop(golden_image(i), preprocess.crop_matrices(center, extent, 192, 256, udp), 192, 256)
        for j, seen in enumerate(crops):
            key = f"img{i}_box{j}_{'udp' if udp else 'plain'}_u8"
            if key in g:
                np.testing.assert_array_equal(seen, g[key])
            else:
                np.testing.assert_array_equal(seen[1::3, 2::3], g[key + "s"])


def test_ground_truth_boxes_are_cut_as_the_protocols_do() -> None:
    boxes = [[-5, -5, 20, 20], [90, 90, 30, 30], [10, 10, 0.5, 40], [200, 10, 5, 5]]
    sizes = [[100, 100]] * 4
    legacy, legacy_kept = preprocess.clip_ground_truth(boxes, sizes, legacy=True)
    later, later_kept = preprocess.clip_ground_truth(boxes, sizes, legacy=False)
    np.testing.assert_array_equal(legacy[:2], [[0, 0, 19, 19], [90, 90, 99, 99]])
    np.testing.assert_array_equal(later[:2], [[0, 0, 20, 20], [90, 90, 99, 99]])
    assert legacy_kept.tolist() == [True, True, False, False]
    assert later_kept.tolist() == [True, True, True, False]


def test_mpii_people_are_those_of_mmpose(golden: Golden) -> None:
    g = golden("f_mpii.npz")
    center, extent = preprocess.mpii_center_scale(g["ann_center"], g["ann_scale"])
    np.testing.assert_array_equal(center, g["net_center"])
    np.testing.assert_array_equal(extent, g["net_scale"] * np.float32(200))


def test_megvii_boxes_grow_before_the_aspect_ratio() -> None:
    center, extent = regions_of([[10, 20, 110, 120], [0, 0, 300, 100]], 192, 256, padding=1.0, enlarge=(1.09, 1.135))
    np.testing.assert_array_equal(center, [[60, 70], [150, 50]])
    # 109 x 113.5 and 327 x 113.5 px
    np.testing.assert_allclose(extent, [[109, 109 * 256 / 192], [327, 327 * 256 / 192]], rtol=1e-6)


boxes_strategy = st.tuples(
    st.floats(-500, 3000), st.floats(-500, 3000), st.floats(2, 2000), st.floats(2, 2000), st.sampled_from(SIZES)
)


@given(boxes_strategy, st.booleans())
def test_box_to_crop_and_back_is_the_identity(
    drawn: tuple[float, float, float, float, tuple[int, int]], udp: bool
) -> None:
    x, y, w, h, (width, height) = drawn
    center, extent = regions_of([[x, y, x + w, y + h]], width, height)
    matrix = preprocess.crop_matrices(center, extent, width, height, udp)[0]
    points = np.array([[x, y], [x + w, y + h], [x + w / 3, y + h / 5]])
    in_crop = points @ matrix[:, :2].T + matrix[:, 2]
    # a heatmap of the crop's own size: cells are px of the crop
    back = to_frame(in_crop[None].astype(np.float32), center, extent, width, height, udp)[0]
    # single precision of the centre and of the points, at coordinates up to 5000 px
    np.testing.assert_allclose(back, points, rtol=0, atol=5e-3 + 2e-6 * max(w, h))
    assert (in_crop > -1e-2).all() and (in_crop < [width + 1e-2, height + 1e-2]).all(), "the crop shows the box"


@given(boxes_strategy, st.booleans())
def test_mirroring_the_frame_mirrors_the_crop(
    drawn: tuple[float, float, float, float, tuple[int, int]], udp: bool
) -> None:
    x, y, w, h, (width, height) = drawn
    box, mirrored = [x, y, x + w, y + h], [2999 - x - w, y, 2999 - x, y + h]  # pixel centres 0..2999
    here, there = preprocess.crop_matrices(*regions_of([box, mirrored], width, height), width, height, udp)
    points = np.array([[x, y], [x + w, y + h]])
    seen = points @ here[:, :2].T + here[:, 2]
    in_mirror = (points * [-1, 1] + [2999, 0]) @ there[:, :2].T + there[:, 2]
    # The plain rule puts the crop's edges on 0 and width: a mirrored crop is 1 px off, which the flip test's shift
    # answers. Tolerance: single precision of the centre, enlarged with the crop.
    expected = seen * [-1, 1] + [width - 1 if udp else width, 0]
    np.testing.assert_allclose(in_mirror, expected, rtol=0, atol=1e-2 + 5e-3 * width / min(w, h))


@given(st.integers(0, 2**31), st.booleans())
def test_every_way_to_crop_gives_the_defined_integers(seed: int, turn: bool) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(3, 120, 2)
    frame = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    scale, angle = np.exp(rng.uniform(-2, 3)), rng.uniform(-np.pi, np.pi) if turn else 0
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = rng.uniform(-0.3, 1.3, 2) * (width, height)
    matrix = np.concatenate([linear, (np.array([24, 32]) - linear @ middle)[:, None]], axis=1)
    expected = cv2.warpAffine(frame, matrix, (48, 64), flags=cv2.INTER_LINEAR)  # OpenCV 4, which the tests pin
    inverse = preprocess.invert(matrix[None])[0]
    for warp in WARPS:
        seen = np.empty((64, 48, 3), np.uint8)
        warp(frame, matrix, inverse, seen)
        np.testing.assert_array_equal(seen, expected)


def test_opencv_4_is_found_exact_and_another_arithmetic_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    fastest = preprocess._fastest_warp.__wrapped__
    assert fastest() is preprocess._warp_affine
    exact = cv2.warpAffine

    def opencv_5(frame: Any, matrix: Any, size: Any, dst: Any, flags: int) -> None:
        exact(frame, matrix, size, dst=dst, flags=flags)
        dst[5, 5] ^= 1

    monkeypatch.setattr(preprocess.cv2, "warpAffine", opencv_5)
    assert fastest() is preprocess._warp_remap
    monkeypatch.setattr(preprocess.cv2, "remap", lambda *args, dst: dst.fill(0))
    assert fastest() is preprocess._warp_fixed_point


def test_frames_too_large_for_opencv_are_cropped() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (8, 40000, 3)).astype(np.uint8)
    with pytest.raises(cv2.error):
        cv2.warpAffine(frame, np.eye(2, 3), (8, 8))
    matrix = np.array([[[1.0, 0, -39990], [0, 1, 0]]])
    np.testing.assert_array_equal(preprocess.crop(frame, matrix, 8, 8)[0], frame[:8, 39990:39998])


def test_views_of_a_frame_give_the_same_crops() -> None:
    large = np.random.default_rng(1).integers(0, 256, (200, 300, 4)).astype(np.uint8)
    matrices = preprocess.crop_matrices(*regions_of([[20, 30, 90, 120]], 48, 64), 48, 64)
    for view in (large[20:150, 10:250, :3], large[::2, ::3, :3], large[::-1, :, :3], large[..., 2::-1]):
        whole = np.ascontiguousarray(view)
        np.testing.assert_array_equal(preprocess.crop(view, matrices, 48, 64), preprocess.crop(whole, matrices, 48, 64))


def test_order_of_people_does_not_matter_and_out_is_written() -> None:
    frame = np.random.default_rng(2).integers(0, 256, (120, 160, 3)).astype(np.uint8)
    boxes = np.array([[5, 5, 60, 90], [-20, 40, 30, 130], [100, 10, 170, 60.5]])

    def crops(rows: NDArray[np.float64], out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        matrices = preprocess.crop_matrices(*regions_of(rows, 48, 64), 48, 64)
        return preprocess.crop(frame, matrices, 48, 64, out)

    out = np.empty((3, 64, 48, 3), np.uint8)
    assert crops(boxes, out) is out
    np.testing.assert_array_equal(crops(boxes[[2, 0, 1]]), out[[2, 0, 1]])
    assert crops(np.zeros((0, 4))).shape == (0, 64, 48, 3)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[0, 0, 5, 5], [1, 2, float("nan"), 4]], "box 1 is .*nan.*1 of 2"),
        ([[0, 0, 5, 5], [10, 10, 10, 20], [9, 9, 3, 12]], "box 1 .*2 of 3"),
        ([[0, 0, float("inf"), 5]], "finite"),
        ([[0, 0, 5]], r"shape \(people, 4\).*\(1, 3\)"),
        ([["a", 0, 1, 1]], "must be numbers"),
    ],
)
def test_boxes_that_cannot_be_used_are_named(boxes: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        regions_of(boxes, 192, 256)


def test_a_box_below_single_precision_is_refused() -> None:
    center, extent = regions_of([[1e7, 1e7, 1e7 + 0.01, 1e7 + 0.01]], 192, 256)
    with pytest.raises(InputError, match="box 0 .*too small or too far away"):
        preprocess.crop_matrices(center, extent, 192, 256)


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3)),
        [[0]],
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_frames_that_cannot_be_used_are_refused(frame: Any) -> None:
    with pytest.raises(InputError, match="frame"):
        preprocess.crop(frame, np.zeros((1, 2, 3)), 8, 8)


def test_an_out_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(InputError, match=r"out must be .*\(1, 8, 8, 3\)"):
        preprocess.crop(np.zeros((4, 4, 3), np.uint8), np.zeros((1, 2, 3)), 8, 8, np.empty((1, 8, 9, 3), np.uint8))


class _Tensor:
    """As PyTorch's tensors with gradients."""

    def __array__(self, *_: object, **__: object) -> None:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")


@pytest.mark.parametrize(
    ("boxes", "said"),
    [
        ([[0, 0, 2e38, 2e38]], r"box 0 is .* at most 1e\+09 px"),
        ([[0, 0, 1e300, 5]], r"box 0 is .* at most 1e\+09 px"),
        ([[0, 0, 10**400, 5]], "of the type object"),
        ([["1", "2", "3", "4"]], "of the type <U1"),
        (np.array([[0, 0, 5 + 3j, 5]]), "of the type complex128"),
        (np.array([[False, False, True, True]]), "of the type bool"),
        (np.array([["2020", "2020", "2021", "2021"]], "M8[Y]"), "of the type datetime64"),
        (np.ma.masked_array([[0.0, 0, 5, 5], [0, 0, 9, 9]], [[0] * 4, [1] * 4]), "these are masked"),
        (_Tensor(), "tensor.detach"),
        ([[1, 2], [3, 4, 5]], "inhomogeneous"),
        (None, "of the type object"),
    ],
)
def test_boxes_that_are_no_numbers_or_nowhere(boxes: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        preprocess.check_boxes(boxes)  # type: ignore[arg-type]


@given(st.lists(st.floats(-1e9, 1e9), min_size=4, max_size=4), st.sampled_from([True, False]))
def test_no_box_within_reach_gives_nan(box: list[float], udp: bool) -> None:
    try:
        center, extent = regions_of([box], 192, 256, udp=udp)
        matrices = preprocess.crop_matrices(center, extent, 192, 256, udp)
    except InputError:
        return
    assert np.isfinite(matrices).all() and np.isfinite(center).all() and np.isfinite(extent).all()
    assert np.isfinite(to_frame(np.zeros((1, 1, 2), np.float32), center, extent, 48, 64, udp)).all()
