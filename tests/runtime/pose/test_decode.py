"""Decoding against MMPose, the HRNet and the MSPN repository, and against slow loops over OpenCV's blur."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from posert.runtime.bundle.contract import Contract
from posert.runtime.errors import CatalogError, InputError
from posert.runtime.pose.decode import decode, to_frame
from posert.runtime.pose.heads import HEADS

Golden = Callable[[str], Any]
SETS = {"coco_64x48": (64, 48), "coco_96x72": (96, 72), "mpii_64x64": (64, 64)}
MEGVII = ("megvii", "megvii_original")
COMBINED = ("udp_combined", "udp_heatmap_combined")
SIMCC = ("simcc", "simcc_dark")
RULES = HEADS.names()


def decode_maps(
    maps: NDArray[Any], rule: str = "default", kernel: int = 11
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """`decode` by a contract of as many joints as the maps `(N, C, h, w)` have; SimCC's vectors are their maxima."""
    joints = maps.shape[1] // (3 if rule in COMBINED else 1)
    size = {"heatmap_width": maps.shape[3], "heatmap_height": maps.shape[2], "width": 192, "height": 256}
    names = tuple(map(str, range(joints)))
    contract = Contract("test", names, (), (), (0.1,) * joints, **size, decode=rule, kernel=kernel)
    return decode((maps.max(axis=2), maps.max(axis=3)) if rule in SIMCC else (maps,), contract)


def kernel_of(name: str, rule: str) -> int:
    return 5 if rule in MEGVII else 17 if name == "coco_96x72" else 11


def frame_tolerance(seen: NDArray[np.float32], extent: NDArray[np.float32], width: int) -> NDArray[np.float64]:
    """Px of the frame: 1e-4 of rounding, single precision of the coordinate, and 1e-4 cells."""
    return 1e-4 + 2e-7 * np.abs(seen) + 1e-4 * (extent[:, None, :1] / width).astype(np.float64)


@pytest.mark.parametrize("rule", ["none", "default", "unbiased", "udp", "megvii"])
@pytest.mark.parametrize("name", SETS)
def test_mmpose(
    golden: Golden, golden_heatmaps: Callable[..., Any], golden_kinds: Callable[[int], Any], name: str, rule: str
) -> None:
    g, (height, width) = golden("b_decode.npz"), SETS[name]
    maps = golden_heatmaps(name, 255 if rule == "megvii" else 1)
    xy, score = decode_maps(maps, rule, kernel_of(name, rule))
    kind = golden_kinds(maps.shape[1])
    # Two merging peaks (9) and a broad blob (15) leave UDP's Newton step ill-conditioned. Where no value is above zero
    # (12, 13) the reference reads a neighbour's map; here such a joint is at (-1, -1).
    tolerance = np.full(kind.shape, 1e-4)
    compared = np.ones(kind.shape, bool)
    if rule == "udp":
        tolerance[kind == 9], tolerance[kind == 15] = 2e-3, 5e-4
        compared = (kind != 12) & (kind != 13)
        np.testing.assert_array_equal(xy[~compared], -1)
    error = np.abs(xy - g[f"{name}_{rule}_hm"]).max(axis=2)
    assert (error <= tolerance)[compared].all()
    expected_score = g[f"{name}_{rule}_scores"]
    nothing = np.isnan(expected_score)  # 0 / 0 of a map of zeros
    np.testing.assert_allclose(score[~nothing], expected_score[~nothing], rtol=2e-7)
    assert (score[nothing] <= 0).all()

    extent = g[f"{name}_scale"] * np.float32(200)
    seen = to_frame(xy, g[f"{name}_center"], extent, width, height, udp=rule == "udp")
    steps = (tolerance[..., None] - 1e-4) * (extent[:, None] / [width - 1, height - 1])
    allowed = frame_tolerance(seen, extent, width) + steps
    assert (np.abs(seen - g[f"{name}_{rule}_preds"]) <= allowed)[compared].all()


@pytest.mark.parametrize("name", SETS)
def test_megvii_original(golden: Golden, golden_heatmaps: Callable[..., Any], name: str) -> None:
    g, scale, (height, width) = golden("b_decode_orig_repos.npz"), golden("b_decode.npz"), SETS[name]
    xy, score = decode_maps(golden_heatmaps(name, 255), "megvii_original", 5)
    extent = scale[f"{name}_scale"] * np.float32(200)
    seen = to_frame(xy, scale[f"{name}_center"], extent, width, height)
    assert (np.abs(seen - g[f"mspn_{name}_preds"]) <= frame_tolerance(seen, extent, width)).all()
    np.testing.assert_allclose(score, g[f"mspn_{name}_scores"], rtol=2e-7)


@pytest.mark.parametrize("name", SETS)
def test_hrnet_repository(golden: Golden, golden_heatmaps: Callable[..., Any], name: str) -> None:
    g, scale, (height, width) = golden("b_decode_orig_repos.npz"), golden("b_decode.npz"), SETS[name]
    xy, score = decode_maps(golden_heatmaps(name), "default")
    extent = scale[f"{name}_scale"] * np.float32(200)
    seen = to_frame(xy, scale[f"{name}_center"], extent, width, height)
    there = score > 0  # the repository puts the others at (0, 0), MMPose and we at (-1, -1)
    # it goes back through a matrix in single precision: 2e-4 px at 1500 px
    np.testing.assert_allclose(seen[there], g[f"hrnet_{name}_preds"][there], rtol=0, atol=2.5e-4)
    np.testing.assert_array_equal(score, g[f"hrnet_{name}_scores"])


def test_udp_combined(golden: Golden, golden_combined: NDArray[np.float32]) -> None:
    g, inputs = golden("b_decode.npz"), golden("inputs.npz")
    xy, score = decode_maps(golden_combined, "udp_combined", 11)
    extent = inputs["combined_scale"] * np.float32(200)
    seen = to_frame(xy, inputs["combined_center"], extent, 48, 64, udp=True)
    assert (np.abs(seen - g["combined_preds"]) <= frame_tolerance(seen, extent, 48)).all()
    np.testing.assert_allclose(score, g["combined_scores"], rtol=2e-7)


def test_every_rule_of_the_contract_is_there() -> None:
    for rule in RULES:
        xy, score = decode_maps(np.zeros((2, 6, 12, 9), np.float32), rule, 5)
        joints = 2 if rule in COMBINED else 6
        assert xy.shape == (2, joints, 2)
        assert score.shape == (2, joints)
        assert xy.dtype == score.dtype == np.float32
        assert decode_maps(np.zeros((0, 6, 12, 9), np.float32), rule, 5)[0].shape == (0, joints, 2)


def slow_dark(heatmap: NDArray[np.float32], kernel: int) -> NDArray[np.float64]:
    """The formula of DARK on one map, with the whole map blurred and scaled by OpenCV."""
    y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
    if heatmap.max() <= 0:
        return np.array([-1.0, -1.0])
    blurred = cv2.GaussianBlur(heatmap.astype(np.float64), (kernel, kernel), 0, borderType=cv2.BORDER_CONSTANT)
    log = np.log(np.maximum(blurred * (heatmap.max() / blurred.max()), 1e-10))
    point = np.array([x, y], np.float64)
    if 1 < x < heatmap.shape[1] - 2 and 1 < y < heatmap.shape[0] - 2:
        slope = [(log[y, x + 1] - log[y, x - 1]) / 2, (log[y + 1, x] - log[y - 1, x]) / 2]
        dxx = (log[y, x + 2] - 2 * log[y, x] + log[y, x - 2]) / 4
        dyy = (log[y + 2, x] - 2 * log[y, x] + log[y - 2, x]) / 4
        dxy = (log[y + 1, x + 1] - log[y - 1, x + 1] - log[y + 1, x - 1] + log[y - 1, x - 1]) / 4
        if dxx * dyy - dxy**2 != 0:
            point -= np.linalg.solve([[dxx, dxy], [dxy, dyy]], slope)
    return point


def slow_udp(heatmap: NDArray[np.float32], kernel: int) -> NDArray[np.float64]:
    y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
    if heatmap.max() <= 0:
        return np.array([-1.0, -1.0])
    log = np.log(np.clip(cv2.GaussianBlur(heatmap.astype(np.float64), (kernel, kernel), 0), 0.001, 50))
    log = np.pad(log, 1, mode="edge")
    i, j = y + 1, x + 1
    slope = [(log[i, j + 1] - log[i, j - 1]) / 2, (log[i + 1, j] - log[i - 1, j]) / 2]
    dxx = log[i, j + 1] - 2 * log[i, j] + log[i, j - 1] + np.finfo(np.float32).eps
    dyy = log[i + 1, j] - 2 * log[i, j] + log[i - 1, j] + np.finfo(np.float32).eps
    corners = log[i + 1, j + 1] + log[i - 1, j - 1] + 2 * log[i, j]
    dxy = (corners - log[i, j + 1] - log[i + 1, j] - log[i, j - 1] - log[i - 1, j]) / 2
    return np.array([x, y]) - np.linalg.solve([[dxx, dxy], [dxy, dyy]], slope)


@pytest.mark.parametrize(("rule", "slow"), [("unbiased", slow_dark), ("udp", slow_udp)])
@pytest.mark.parametrize("kernel", [3, 9, 11, 17])
def test_blurred_windows_are_the_blurred_map(
    golden_heatmaps: Callable[..., Any], rule: str, slow: Callable[..., Any], kernel: int
) -> None:
    rng = np.random.default_rng(kernel)
    drawn = golden_heatmaps("coco_64x48")[:6]
    # peaks on a floor of negatives and zeros, whose blur is under the floor of the logarithm
    spiked = np.where(
        rng.random((2, 17, 64, 48)) < 0.002, rng.random((2, 17, 64, 48)), -1e-4 * rng.random((2, 17, 1, 1))
    )
    maps = np.concatenate([drawn, spiked]).astype(np.float32)
    xy, _ = decode_maps(maps, rule, kernel)
    for n, k in np.ndindex(maps.shape[:2]):
        expected = slow(maps[n, k], kernel)
        if rule == "udp" and not (np.abs(expected) < 1e3).all():
            continue  # flat maps: the step is a quotient of rounding errors
        # both in double precision; a step of many cells comes from a Hessian that is nearly singular
        np.testing.assert_allclose(xy[n, k], expected, rtol=1e-4, atol=2e-5, err_msg=f"{n} {k}")


def peak(x: float, y: float, height: int, width: int) -> NDArray[np.float32]:
    rows, columns = np.mgrid[:height, :width]
    return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8.0).astype(np.float32)


inside = st.tuples(st.floats(14, 17), st.floats(14, 17))


@given(inside, st.integers(-5, 5), st.integers(-5, 5))
def test_moving_a_map_moves_its_joint(centre: tuple[float, float], dx: int, dy: int) -> None:
    # 12 cells from the border no rule sees it; on an exact tie the first cell wins in both
    still, moved = peak(*centre, 34, 32), np.roll(peak(*centre, 34, 32), (dy, dx), axis=(0, 1))
    for rule in RULES:
        maps = np.stack([still, moved])[:, None]
        if rule in COMBINED:
            maps = np.repeat(maps, 3, axis=1)
        xy, score = decode_maps(maps, rule, 5)
        np.testing.assert_allclose(xy[1, 0] - xy[0, 0], [dx, dy], rtol=0, atol=2e-4)
        np.testing.assert_allclose(score[1], score[0], rtol=1e-5)


@given(inside)
def test_dark_and_udp_find_the_centre_of_a_gaussian(centre: tuple[float, float]) -> None:
    # the logarithm of a Gaussian is a parabola: the Newton step is exact but for the blur's cut tails
    for rule in ("unbiased", "udp"):
        xy, _ = decode_maps(peak(*centre, 34, 32)[None, None], rule, 11)
        np.testing.assert_allclose(xy[0, 0], centre, rtol=0, atol=0.02)


@given(hnp.arrays(np.float32, (4, 3, 16, 12), elements=st.floats(-1, 1, width=16)), st.permutations(range(4)))
def test_people_and_joints_do_not_see_each_other(maps: NDArray[np.float32], order: list[int]) -> None:
    for rule in RULES:
        xy, score = decode_maps(maps, rule, 5)
        permuted_xy, permuted_score = decode_maps(maps[order], rule, 5)
        # products of matrices may round differently in another place of the batch
        np.testing.assert_allclose(permuted_xy, xy[order], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(permuted_score, score[order], rtol=1e-6)


@given(st.integers(0, 2**31))
def test_mirroring_a_map_mirrors_its_joint(seed: int) -> None:
    maps = np.random.default_rng(seed).random((2, 2, 16, 12)).astype(np.float32)
    for rule in ("none", "unbiased"):  # the others treat left and right differently
        xy, _ = decode_maps(maps, rule, 5)
        mirrored, _ = decode_maps(maps[..., ::-1], rule, 5)
        kept = np.abs(xy).max(axis=2) < 100  # noise has no peak: the step may be any number of cells
        np.testing.assert_allclose(mirrored[kept][:, 0], 11 - xy[kept][:, 0], rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(mirrored[kept][:, 1], xy[kept][:, 1], rtol=1e-3, atol=1e-3)


def test_quarter_offset_leaves_two_cells_at_the_left_and_one_at_the_right() -> None:
    maps = np.zeros((1, 12, 10, 12), np.float32)
    for x in range(12):
        maps[0, x, 5, x] = 1
        if x < 11:
            maps[0, x, 5, x + 1] = 0.5
    xy, _ = decode_maps(maps, "default")
    np.testing.assert_array_equal(xy[0, :, 0] - np.arange(12), [0, 0, *[0.25] * 9, 0])


def test_the_first_of_equal_maxima_wins() -> None:
    maps = np.zeros((1, 1, 8, 8), np.float32)
    maps[0, 0, 2, 6] = maps[0, 0, 5, 1] = 1
    assert decode_maps(maps, "none")[0].tolist() == [[[6, 2]]]


def test_strided_and_half_precision_maps(golden_heatmaps: Callable[..., Any]) -> None:
    maps = golden_heatmaps("coco_64x48")[:4]
    expected = decode_maps(maps, "default")
    channels_last = np.ascontiguousarray(maps.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    for seen, wanted in zip(decode_maps(channels_last, "default"), expected, strict=True):
        np.testing.assert_array_equal(seen, wanted)
    half = maps.astype(np.float16)
    np.testing.assert_array_equal(decode_maps(half, "none")[0], decode_maps(half.astype(np.float32), "none")[0])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("rule", RULES)
def test_maps_that_are_not_finite_are_named(rule: str, bad: float) -> None:
    maps = np.random.default_rng(0).random((3, 6, 32, 24)).astype(np.float32)
    maps[1, 3, 16, 12] = bad
    joint = 1 if rule in COMBINED else 3  # channel 3 is the second joint's class
    with pytest.raises(InputError, match=f"1 of .* the first at person 1 joint {joint}"):
        decode_maps(maps, rule, 5)


def test_an_unknown_rule_offers_the_nearest() -> None:
    with pytest.raises(CatalogError, match="unknown decode rule 'unbaised'. Did you mean unbiased"):
        decode_maps(np.ones((2, 3, 8, 6), np.float32), "unbaised")


@pytest.mark.parametrize(
    ("shapes", "rule"),
    [
        ([(3, 8, 6)], "default"),
        ([(2, 4, 8, 6)], "default"),
        ([(2, 3, 6, 8)], "default"),
        ([(2, 3, 8, 6)], "udp_combined"),
        ([(2, 3, 8, 6), (2, 3, 8, 6)], "default"),
    ],
    ids=str,
)
def test_outputs_of_other_shapes_are_refused(shapes: list[tuple[int, ...]], rule: str) -> None:
    contract = Contract("test", ("a", "b", "c"), (), (), (0.1,) * 3, 24, 32, 6, 8, decode=rule)
    expected = r"\(9, 8, 6\)" if rule == "udp_combined" else r"\(3, 8, 6\)"
    with pytest.raises(InputError, match=rf"have the shapes .*; the decode rule '{rule}' .* reads {expected}"):
        decode(tuple(np.ones(shape, np.float32) for shape in shapes), contract)
