"""The table of people against what MMPose reads, and against plain loops."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from posert.runtime.accuracy.people import (
    all_annotated,
    annotated_people,
    centered_people,
    detected_people,
    labelled_people,
)
from posert.runtime.bundle.contract import Contract
from posert.runtime.datasets import dataset
from posert.runtime.errors import InputError
from posert.runtime.metrics import Centers

Golden = Callable[[str], Any]


@pytest.mark.parametrize(("name", "key"), [("coco", "thr_0.0"), ("posetrack18", "thr_0.4")])
def test_detector_file(golden: Golden, name: str, key: str) -> None:
    detections = golden("detector_file.json.gz")
    coco = {"images": [{"id": i, "file_name": f"{i:06d}.jpg"} for i in range(1, 31)], "annotations": []}
    seen = detected_people(dataset(name), coco, detections)
    expected = golden("a_det_file.json.gz")[key]
    assert [f"{image:06d}.jpg" for image in seen.image_ids] == [row["file"] for row in expected]
    assert [seen.files[i] for i in seen.image] == [row["file"] for row in expected]
    box = np.array([row["bbox"] for row in expected])
    np.testing.assert_array_equal(seen.xyxy, np.concatenate([box[:, :2], box[:, :2] + box[:, 2:]], axis=1))
    np.testing.assert_array_equal(seen.box_score, np.array([row["score"] for row in expected], np.float32))
    assert [detections[i]["bbox"] for i in seen.source] == [row["bbox"] for row in expected]


def annotations(golden: Golden) -> dict[str, Any]:
    """The people of the golden; of their joints it keeps the largest number, which is what is looked at."""
    file = copy.deepcopy(golden("a_gt_boxes.json.gz"))
    for person in file["annotations"]:
        person["keypoints"] = [0] * 50 + [person["kmax"]]
    return {"images": file["images"], "annotations": file["annotations"]}


@pytest.mark.parametrize(("protocol", "key"), [("v029", "db_v029"), ("legacy", "db_v010")])
def test_annotated_people(golden: Golden, protocol: str, key: str) -> None:
    coco, expected = annotations(golden), golden("a_gt_boxes.json.gz")[key]
    seen = annotated_people(dataset("coco"), coco, protocol)
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    assert [names[image] for image in seen.image_ids] == [row["file"] for row in expected]
    box = np.array([row["bbox"] for row in expected])
    np.testing.assert_allclose(seen.xyxy[:, 2:] - seen.xyxy[:, :2], box[:, 2:], rtol=0, atol=1e-9)
    np.testing.assert_allclose(seen.xyxy[:, :2], box[:, :2], rtol=0, atol=1e-9)
    assert set(seen.box_score) == {1}
    assert [seen.files[i] for i in seen.image] == [row["file"] for row in expected]
    center, extent = seen.regions(Contract("test", ("a",), (), (), (0.1,), 192, 256, 48, 64))
    # one ulp of single precision
    np.testing.assert_allclose(center, [row["center"] for row in expected], rtol=1.2e-7)
    np.testing.assert_allclose(extent / np.float32(200), [row["scale"] for row in expected], rtol=2.4e-7)


def test_wholebody_takes_people_without_labelled_body(golden: Golden) -> None:
    coco = copy.deepcopy(golden("e_wholebody.json.gz")["gt"])
    before = annotated_people(dataset("coco_wholebody"), coco, "v029")
    for person in coco["annotations"]:
        person["num_keypoints"] = 0
    after = annotated_people(dataset("coco_wholebody"), coco, "v029")
    np.testing.assert_array_equal(after.source, before.source)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("image_id", 31, r"detections\[3\] is in image 31"),
        ("bbox", [1, 2, 0, 4], r"has the box \[1, 2, 0, 4\] without an area"),
        ("bbox", [1, 2, 3], r"detections\[3\] has 3 numbers in 'bbox', expected 4 numbers"),
        ("score", float("nan"), r"detections\[3\] has nan in 'score', expected a finite number"),
        ("score", None, r"detections\[3\] lacks 'score'"),
    ],
)
def test_bad_detections_are_named(golden: Golden, field: str, value: Any, message: str) -> None:
    detections = copy.deepcopy(golden("detector_file.json.gz"))
    if value is None:
        del detections[3][field]
    else:
        detections[3].update({field: value, "category_id": 1})
    coco = {"images": [{"id": i, "file_name": f"{i:06d}.jpg"} for i in range(1, 31)], "annotations": []}
    with pytest.raises(InputError, match=message):
        detected_people(dataset("coco"), coco, detections)


def test_bad_annotations_are_named(golden: Golden) -> None:
    coco = annotations(golden)
    with pytest.raises(InputError, match="unknown protocol"):
        annotated_people(dataset("coco"), coco, "v28")
    with pytest.raises(InputError, match=r"annotations\[0\].*has 51 numbers.*expected 42"):
        annotated_people(dataset("aic"), coco, "legacy")
    del coco["images"][0]["width"]
    with pytest.raises(InputError, match=r"images\[0\].*lacks 'width'"):
        annotated_people(dataset("coco"), coco, "legacy")


def test_joints_in_five_lists_are_one_row() -> None:
    whole = dataset("coco_wholebody")
    rng = np.random.default_rng(0)
    joints = rng.integers(1, 50, (2, 133, 3))
    records = [
        {
            **{"id": i, "image_id": 7, "bbox": [1, 2, 30, 40], "area": 9, "iscrowd": 0, "num_keypoints": 0},
            **{field: one[first:last].ravel().tolist() for _, field, first, last in whole.parts},
        }
        for i, one in enumerate(joints)
    ]
    coco = {"images": [{"id": 7, "file_name": "a", "width": 90, "height": 90}], "annotations": records}
    seen = annotated_people(whole, coco, "v029").joints
    assert seen is not None
    np.testing.assert_array_equal(seen, joints)


def test_labelled_people_stand_by_image_and_everyone_in_the_order_of_the_file() -> None:
    def person(id: int, image: int, **changes: Any) -> dict[str, Any]:
        joints = {"keypoints": [id, 2, 2, 4, 5, 0], "num_keypoints": 1}
        return {"id": id, "image_id": image, "bbox": [id, 1, 10, 20], **joints, **changes}

    records = [
        person(1, 20),
        person(2, 10),
        person(3, 10, iscrowd=1),
        person(4, 20, num_keypoints=0),
        person(5, 20, keypoints=[1, 2, 0, 4, 5, 0]),
        person(6, 10, bbox=[6, 1, 0, 20]),
        person(7, 20),
    ]
    coco = {"images": [{"id": 10, "file_name": "a"}, {"id": 20, "file_name": "b"}], "annotations": records}
    seen = labelled_people(coco)
    assert [records[i]["id"] for i in seen.source] == [2, 1, 7]
    assert [seen.files[i] for i in seen.image] == ["a", "b", "b"] and seen.image_ids == (10, 20, 20)
    np.testing.assert_array_equal(seen.xyxy, [[2, 1, 12, 21], [1, 1, 11, 21], [7, 1, 17, 21]])
    np.testing.assert_array_equal(seen.joints, [[[i, 2, 2], [4, 5, 0]] for i in (2, 1, 7)])
    assert [(image, members.tolist()) for image, members in seen.by_image()] == [(0, [0]), (1, [1, 2])]
    assert not list(labelled_people({**coco, "annotations": []}).by_image())
    records[3]["bbox"] = [1, 2, float("nan"), 4]
    everyone = all_annotated(coco)
    assert everyone.source.tolist() == list(range(7)) and everyone.joints is None
    assert np.isnan(everyone.xyxy[3]).sum() == 1
    assert [image for image, _ in everyone.by_image()] == [0, 1]


def test_people_with_a_centre_are_cropped_as_mmpose_does() -> None:
    """`TopDownMpiiDataset._get_db` of MMPose 0.29 with the types of NumPy 1: 15 times a float32 scalar is a double."""
    rng = np.random.default_rng(3)
    center, scale = rng.uniform(20, 1200, (400, 2)).round(), rng.uniform(0.5, 12, 400).round(6)
    center[5] = -1
    seen = centered_people(Centers(tuple(f"{i % 9}.jpg" for i in range(400)), center, scale))
    for i in range(400):
        c, s = np.array(center[i], np.float32), np.array([scale[i], scale[i]], np.float32)
        if c[0] != -1:
            c[1] = float(c[1]) + 15 * float(s[1])
        assert seen.crops is not None
        np.testing.assert_array_equal(seen.crops[0][i], c - 1)
        np.testing.assert_array_equal(seen.crops[1][i], s * np.float32(1.25) * np.float32(200))
    assert [seen.files[i] for i in seen.image] == [f"{i % 9}.jpg" for i in range(400)]
    assert seen.image_ids == tuple(range(400))
