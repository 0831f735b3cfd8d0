"""Person scores, OKS-NMS and the records, against MMPose's and through to its AP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from posert.runtime.accuracy.people import People
from posert.runtime.accuracy.results import oks_nms, to_results
from posert.runtime.datasets import dataset
from posert.runtime.errors import InputError
from posert.runtime.metrics import Dataset
from posert.runtime.metrics.oks import evaluate_oks
from posert.runtime.pose.keypoints import person_scores

Golden = Callable[[str], Any]
SIGMAS = dataset("coco").sigmas


def test_scores_and_kept_people_are_those_of_mmpose(golden: Golden) -> None:
    g, inputs = golden("d_nms.npz"), golden("inputs.npz")
    keypoints, area = inputs["nms_keypoints"], (inputs["nms_scale"] * np.float32(200)).prod(axis=1)
    score = person_scores(keypoints[..., 2], inputs["nms_box_score"])
    np.testing.assert_array_equal(score, g["score"])
    np.testing.assert_array_equal(area, g["area"])
    people = np.split(np.arange(len(score)), g["len"].cumsum()[:-1])
    expected = np.split(g["hard_keep"], g["hard_keep_len"].cumsum()[:-1])
    for one, kept in zip(people, expected, strict=True):
        assert oks_nms(keypoints[one][..., :2], score[one], area[one], SIGMAS) == kept.tolist()


def records_of(
    it: Dataset,
    image_ids: Any,
    xy: Any,
    score: Any,
    box_score: Any,
    center: Any,
    extent: Any,
    nms: bool = True,
    protocol: str = "legacy",
) -> list[dict[str, Any]]:
    """`to_results` of people who have all that it looks at; `nms` stands for the data set's metric."""
    count = len(image_ids)
    it = replace(it, metric=replace(it.metric, oks_nms=nms))
    people = People((), np.zeros(count, np.intp), tuple(image_ids), np.arange(count), np.zeros((count, 4)), box_score)
    return to_results(it, people, (center, extent), xy, score, protocol)


@pytest.mark.parametrize(("nms", "name"), [(True, "hard"), (False, "no_nms")])
def test_from_joints_to_ap_as_mmpose(golden: Golden, nms: bool, name: str) -> None:
    g, coco = golden("e_chain.npz"), golden("e_coco.json.gz")["gt"]
    order = np.argsort(g["bbox_id"], kind="stable")
    joints = g["keypoints"][order]
    records = records_of(
        dataset("coco"),
        g["image_id"][order].tolist(),
        joints[..., :2],
        joints[..., 2],
        g["box_score"][order],
        g["center"][order],
        g["scale"][order] * np.float32(200),
        nms,
    )
    scored = evaluate_oks(coco, records, SIGMAS, rules="xtcocotools")
    np.testing.assert_array_equal(list(scored.metrics.values()), list(golden("e_chain.json")["stats"][name].values()))


def draw(count: int, joints: int) -> dict[str, Any]:
    rng = np.random.default_rng(count)
    return {
        "image_ids": rng.integers(0, 3, count).tolist(),
        "xy": rng.uniform(0, 300, (count, joints, 2)).astype(np.float32),
        "score": rng.random((count, joints)).astype(np.float32),
        "box_score": rng.random(count).astype(np.float32),
        "center": rng.uniform(0, 300, (count, 2)).astype(np.float32),
        "extent": rng.uniform(50, 300, (count, 2)).astype(np.float32),
    }


def test_records_hold_what_was_given_in_full_precision() -> None:
    it, given = dataset("coco_wholebody"), draw(5, 133)
    records = records_of(it, **given, nms=False)
    assert len(records) == 5
    fields = ["keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts"]
    assert list(records[0]) == ["image_id", "category_id", *fields, "score", "center", "scale"]
    order = [i for image in dict.fromkeys(given["image_ids"]) for i in range(5) if given["image_ids"][i] == image]
    for record, i in zip(records, order, strict=True):
        joints = np.concatenate([record[field] for field in fields]).reshape(133, 3).astype(np.float32)
        np.testing.assert_array_equal(joints, np.concatenate([given["xy"][i], given["score"][i, :, None]], axis=1))
        assert record["image_id"] == given["image_ids"][i]
        np.testing.assert_allclose(np.array(record["scale"]) * 200, given["extent"][i], rtol=1e-6)


def test_order_of_people_does_not_matter() -> None:
    given = draw(12, 17)
    turned = {name: values[::-1] for name, values in given.items()}
    key = repr
    for nms in (True, False):
        seen = records_of(dataset("coco"), **given, nms=nms)
        assert sorted(map(key, records_of(dataset("coco"), **turned, nms=nms))) == sorted(map(key, seen))


def test_a_duplicate_goes_and_a_stranger_stays() -> None:
    given = draw(3, 17)
    given["image_ids"] = [7, 7, 7]
    given["xy"][1] = given["xy"][0] + 0.5
    given["extent"][:] = 200
    given["score"][:] = 0.9
    given["box_score"][:] = [0.8, 0.9, 0.1]
    records = records_of(dataset("coco"), **given)
    assert [record["score"] for record in records] == pytest.approx([0.81, 0.09])
    given["image_ids"] = [7, 8, 7]
    assert len(records_of(dataset("coco"), **given)) == 3


def test_alike_is_who_the_protocol_calls_so() -> None:
    """AIC's published figures were made with sigmas twice as large, and the suppression took them too."""
    aic, given = dataset("aic"), draw(2, 14)
    given |= {"image_ids": [7, 7], "extent": np.full((2, 2), 200, np.float32)}
    given["xy"][1] = given["xy"][0] + np.float32([4, 0])
    once, twice = (np.exp(-(4**2) / (2 * 200**2 * (2 * s) ** 2)).mean() for s in np.outer((1, 2), aic.sigmas))
    assert once < 0.9 < twice
    assert len(records_of(aic, **given, protocol="v029")) == 2
    assert len(records_of(aic, **given, protocol="legacy")) == 1
    assert len(records_of(aic, **given)) == 1


def test_a_person_without_a_score_above_the_threshold_scores_0() -> None:
    joints = np.array([[0.1, 0.19999], [0.2, 0.1], [0.5, 0.3]], np.float32)
    # 0.2 in single precision is a little above 0.2, and counts
    np.testing.assert_allclose(person_scores(joints, np.ones(3, np.float32)), [0, 0.2, 0.4], rtol=1e-6)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="unknown protocol 'v28'"):
        records_of(dataset("coco"), **draw(2, 17), protocol="v28")
    with pytest.raises(InputError, match="coco has 17 joints"):
        records_of(dataset("coco"), **draw(2, 16))
    assert records_of(dataset("coco"), **draw(0, 17)) == []
