"""The constants of the data sets against what defines them elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools.cocoeval import Params

from posert.runtime.datasets import dataset, datasets
from posert.runtime.errors import CatalogError, InputError
from posert.runtime.metrics import Metric

PUBLISHED = {"aic": 14, "coco": 17, "coco_wholebody": 133, "crowdpose": 14, "mpii": 16, "posetrack18": 17}


@pytest.mark.parametrize(("name", "joints"), PUBLISHED.items())
def test_the_published_ones_are_known(name: str, joints: int) -> None:
    assert name in datasets() and len(dataset(name).keypoints) == joints


@pytest.mark.parametrize("name", datasets())
def test_constants_fit_together(name: str) -> None:
    it = dataset(name)
    count = len(it.keypoints)
    assert it.name == name
    assert count == len(set(it.keypoints)) == len(it.sigmas)
    assert all(sigma > 0 for sigma in it.sigmas)
    assert len(it.legacy_sigmas) in (0, count)
    assert all(0 <= joint < count for pair in it.skeleton for joint in pair)
    assert all(0 <= joint < count for joint in it.evaluated)
    assert sorted(it.flip_index) == list(range(count))
    assert [it.flip_index[i] for i in it.flip_index] == list(range(count)), "mirroring twice changes nothing"
    assert sum(joints for _, joints in it.fields) == count and it.fields[0][0] == "keypoints"
    assert isinstance(it.metric, Metric) and it.boxes in ("annotated", "detections", "either")


@pytest.mark.parametrize("name", datasets())
def test_mirroring_swaps_left_and_right_by_name(name: str) -> None:
    it = dataset(name)
    for joint, partner in zip(it.keypoints, it.flip_index, strict=True):
        if joint.startswith(("left_", "right_")):
            swapped = "right_" + joint[5:] if joint.startswith("left_") else "left_" + joint[6:]
            assert it.keypoints[partner] == swapped


@pytest.mark.parametrize("name", datasets())
def test_the_skeleton_is_symmetric_where_it_is_sided(name: str) -> None:
    it = dataset(name)
    limbs = {frozenset(limb) for limb in it.skeleton}
    mirrored = {frozenset(it.flip_index[j] for j in limb) for limb in limbs}
    assert limbs == mirrored


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != "coco_wholebody"])  # a face has numbers
def test_joints_without_a_side_stay(name: str) -> None:
    it = dataset(name)
    others = [j for j, joint in enumerate(it.keypoints) if not joint.startswith(("left_", "right_"))]
    assert all(it.flip_index[j] == j for j in others)


def test_sigmas_of_coco_are_those_of_pycocotools() -> None:
    np.testing.assert_allclose(dataset("coco").sigmas, Params("keypoints").kpt_oks_sigmas, rtol=0, atol=1e-12)


def test_wholebody_begins_with_coco_and_its_parts_tile_it() -> None:
    body, whole = dataset("coco"), dataset("coco_wholebody")
    assert whole.keypoints[:17] == body.keypoints
    assert whole.sigmas[:17] == body.sigmas
    ends = [0, *(last for *_, last in whole.parts)]
    assert [first for _, _, first, _ in whole.parts] == ends[:-1]
    assert ends[-1] == 133
    # the hands have one set of constants, and one shape
    assert whole.sigmas[91:112] == whole.sigmas[112:133]
    left = {(a + 21, b + 21) for a, b in whole.skeleton if 91 <= a < 112}
    assert left == {(a, b) for a, b in whole.skeleton if a >= 112}


def test_the_legacy_sigmas_of_aic_are_twice_the_later_ones() -> None:
    it = dataset("aic")
    np.testing.assert_allclose(it.sigmas_for("legacy"), 2 * np.array(it.sigmas_for("v029")), rtol=1e-12)
    assert dataset("coco").sigmas_for("legacy") == dataset("coco").sigmas_for("v029")


def test_posetrack_evaluates_all_but_the_ears() -> None:
    it = dataset("posetrack18")
    assert set(it.keypoints) - {it.keypoints[j] for j in it.evaluated} == {"left_ear", "right_ear"}


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(CatalogError, match="'coco_wholebdy'.*Did you mean coco_wholebody"):
        dataset("coco_wholebdy")
    with pytest.raises(InputError, match="unknown protocol 'v29'.*v029"):
        dataset("coco").sigmas_for("v29")
