"""PCKh against MMPose and the HRNet repository."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posert.runtime.datasets import dataset
from posert.runtime.errors import InputError
from posert.runtime.metrics.pckh import pckh_metrics, predictions_of

Golden = Callable[[str], Any]
MPII = dataset("mpii")


@pytest.mark.parametrize(
    ("reference", "protocol", "tolerance"),
    # MMPose takes Mean@0.1 in single precision, the HRNet repository in double
    [("mmpose_v029", "v029", 1e-15), ("mmpose_v010", "legacy", 1e-15), ("hrnet_repo", "legacy", 4e-9)],
)
def test_references(golden: Golden, reference: str, protocol: str, tolerance: float) -> None:
    g, expected = golden("f_mpii.npz"), golden("f_mpii.json")[reference]
    seen = pckh_metrics(MPII, g, g["pred0"], protocol)
    assert list(seen) == ["Head", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle", "Mean", "Mean@0.1"]
    np.testing.assert_allclose(list(seen.values()), np.array(list(expected.values())) / 100, rtol=0, atol=tolerance)


def test_the_protocols_differ_in_the_strict_mean_only(golden: Golden) -> None:
    g = golden("f_mpii.npz")
    legacy, later = (pckh_metrics(MPII, g, g["pred0"], protocol) for protocol in ("legacy", "v029"))
    assert [name for name in legacy if legacy[name] != later[name]] == ["Mean@0.1"]
    assert legacy["Mean@0.1"] > later["Mean@0.1"]


@given(st.integers(0, 2**31))
def test_order_of_people_does_not_matter_and_places_are_perfect(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = {
        "pos_gt_src": rng.uniform(0, 900, (16, 2, 5)),
        "jnt_missing": np.zeros((16, 5)),
        "headboxes_src": np.stack([np.zeros((2, 5)), rng.uniform(20, 90, (2, 5))]),
    }
    exact = truth["pos_gt_src"].transpose(2, 0, 1) - 1
    # single precision at 900 px is 6e-5 px, far under a tenth of a head
    np.testing.assert_allclose(list(pckh_metrics(MPII, truth, exact, "v029").values()), 1, rtol=1e-6)
    noisy, order = exact + rng.normal(0, 20, exact.shape), rng.permutation(5)
    turned = {name: array[..., order] for name, array in truth.items()}
    assert pckh_metrics(MPII, turned, noisy[order], "legacy") == pytest.approx(
        pckh_metrics(MPII, truth, noisy, "legacy")
    )


def test_records_in_any_order() -> None:
    points = np.random.default_rng(0).uniform(0, 100, (3, 16, 3))
    records = [{"image_id": i, "keypoints": p.ravel().tolist()} for i, p in enumerate(points)]
    for given_records in (records, records[::-1], [{"keypoints": r["keypoints"]} for r in records]):
        np.testing.assert_array_equal(predictions_of(MPII, given_records), points[..., :2])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: r[1].pop("keypoints"), r"results\[1\] lacks 'keypoints'"),
        (lambda r: r[1].update(keypoints=[0.0] * 51), r"results\[1\] has 51 numbers .*expected 48 numbers \(16 joints"),
        (lambda r: r[2].update(keypoints=[float("nan")] * 48), r"results\[2\] has values .* not finite numbers"),
        (lambda r: r[2].update(image_id=3), r"results\[2\] is of person 3, expected numbers from 0 to 2"),
        (lambda r: r[2].update(image_id=0), r"1 people have more than one record"),
    ],
)
def test_bad_records_are_named(spoil: Callable[[Any], None], message: str) -> None:
    records = [{"image_id": i, "keypoints": [1.0] * 48} for i in range(3)]
    spoil(records)
    with pytest.raises(InputError, match=message):
        predictions_of(MPII, records)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.pop("jnt_missing"), "lacks 'jnt_missing'; it has headboxes_src, pos_gt_src"),
        (lambda t: t.update(pos_gt_src=t["pos_gt_src"][:, :, 1:]), r"\(16, 2, 119\), expected \(16, 2, 120\) for 120"),
        (lambda t: t["pos_gt_src"].fill(np.nan), "holds 3840 NaN"),
        (lambda t: t["headboxes_src"].fill(0), "headboxes_src of person 0 has no size"),
        (lambda t: t["jnt_missing"].fill(1), "no right_ankle is visible"),
    ],
)
def test_bad_ground_truth_is_named(golden: Golden, spoil: Callable[[Any], None], message: str) -> None:
    g = golden("f_mpii.npz")
    truth = {name: g[name].copy() for name in ("pos_gt_src", "jnt_missing", "headboxes_src")}
    spoil(truth)
    with pytest.raises(InputError, match=message):
        pckh_metrics(MPII, truth, g["pred0"], "legacy")
