"""Boxes of an evaluation against those that MMPose reads."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from posert.runtime.accuracy.boxes import annotated_boxes, detected_boxes
from posert.runtime.bundle.contract import Contract
from posert.runtime.datasets import dataset
from posert.runtime.errors import InputError
from posert.runtime.pose.preprocess import crop_regions

Golden = Callable[[str], Any]


@pytest.mark.parametrize(("name", "key"), [("coco", "thr_0.0"), ("posetrack18", "thr_0.4")])
def test_detector_file(golden: Golden, name: str, key: str) -> None:
    detections = golden("detector_file.json.gz")
    coco = {"images": [{"id": i} for i in range(1, 31)], "annotations": []}
    seen = detected_boxes(dataset(name), coco, detections)
    expected = golden("a_det_file.json.gz")[key]
    assert [f"{image:06d}.jpg" for image in seen.image_ids] == [row["file"] for row in expected]
    box = np.array([row["bbox"] for row in expected])
    np.testing.assert_array_equal(seen.xyxy, np.concatenate([box[:, :2], box[:, :2] + box[:, 2:]], axis=1))
    np.testing.assert_array_equal(seen.score, np.array([row["score"] for row in expected], np.float32))
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
    seen = annotated_boxes(dataset("coco"), coco, protocol)
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    assert [names[image] for image in seen.image_ids] == [row["file"] for row in expected]
    box = np.array([row["bbox"] for row in expected])
    np.testing.assert_allclose(seen.xyxy[:, 2:] - seen.xyxy[:, :2], box[:, 2:], rtol=0, atol=1e-9)
    np.testing.assert_allclose(seen.xyxy[:, :2], box[:, :2], rtol=0, atol=1e-9)
    assert set(seen.score) == {1}
    contract = Contract("coco", ("nose",), (), (), (0.1,), 192, 256, 48, 64)
    center, extent = crop_regions(seen.xyxy, contract)
    # one ulp of single precision
    np.testing.assert_allclose(center, [row["center"] for row in expected], rtol=1.2e-7)
    np.testing.assert_allclose(extent / np.float32(200), [row["scale"] for row in expected], rtol=2.4e-7)


def test_wholebody_takes_people_without_labelled_body(golden: Golden) -> None:
    coco = copy.deepcopy(golden("e_wholebody.json.gz")["gt"])
    before = annotated_boxes(dataset("coco_wholebody"), coco, "v029")
    for person in coco["annotations"]:
        person["num_keypoints"] = 0
    after = annotated_boxes(dataset("coco_wholebody"), coco, "v029")
    np.testing.assert_array_equal(after.source, before.source)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("image_id", 31, r"detections\[3\] is in image 31"),
        ("bbox", [1, 2, 0, 4], r"has the box \[1, 2, 0, 4\] without an area"),
        ("bbox", [1, 2, 3], r"detections\[3\] has 3 numbers in 'bbox', expected 4 numbers"),
        ("score", float("nan"), r"detections\[3\] has values in 'score' that are not finite"),
        ("score", None, r"detections\[3\] lacks 'score'"),
    ],
)
def test_bad_detections_are_named(golden: Golden, field: str, value: Any, message: str) -> None:
    detections = copy.deepcopy(golden("detector_file.json.gz"))
    if value is None:
        del detections[3][field]
    else:
        detections[3].update({field: value, "category_id": 1})
    coco = {"images": [{"id": i} for i in range(1, 31)], "annotations": []}
    with pytest.raises(InputError, match=message):
        detected_boxes(dataset("coco"), coco, detections)


def test_bad_annotations_are_named(golden: Golden) -> None:
    coco = annotations(golden)
    with pytest.raises(InputError, match="unknown protocol"):
        annotated_boxes(dataset("coco"), coco, "v28")
    with pytest.raises(InputError, match=r"annotations\[0\].*has 51 numbers.*expected 42"):
        annotated_boxes(dataset("aic"), coco, "legacy")
    del coco["images"][0]["width"]
    with pytest.raises(InputError, match=r"images\[0\].*lacks 'width'"):
        annotated_boxes(dataset("coco"), coco, "legacy")
