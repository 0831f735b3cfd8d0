"""PoseTrack18's AP against poseval."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from posert.runtime.accuracy.people import People
from posert.runtime.accuracy.results import to_results
from posert.runtime.datasets import dataset
from posert.runtime.errors import InputError
from posert.runtime.metrics.poseval import joint_average_precision, poseval_metrics

Golden = Callable[[str], Any]
POSETRACK = dataset("posetrack18")


@pytest.fixture
def sequences(golden: Golden) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Annotations of both sequences, and the predictions."""
    file = copy.deepcopy(golden("g_posetrack.json.gz"))
    coco = {name: [entry for part in file["gt"] for entry in part[name]] for name in ("images", "annotations")}
    return coco, [entry for part in file["gt"] for entry in file["written_predictions"][part["file"]]]


def test_poseval(golden: Golden, sequences: Any) -> None:
    expected = golden("g_posetrack.json.gz")
    seen = poseval_metrics(POSETRACK, *sequences)
    assert [f"{name} AP" for name in seen] == list(expected["stats"])
    np.testing.assert_allclose(list(seen.values()), np.array(list(expected["stats"].values())) / 100, atol=1e-15)
    joints = joint_average_precision(POSETRACK, *sequences)
    np.testing.assert_allclose(joints, np.array(expected["ap_per_joint"][:15]) / 100, rtol=0, atol=1e-15)


def test_from_joints_to_figures(golden: Golden, sequences: Any) -> None:
    """The rows that MMPose evaluated, through our own scores, NMS and records."""
    file = golden("g_posetrack.json.gz")
    rows = file["results"]
    joints = np.array([row["keypoints"] for row in rows], np.float32).reshape(-1, 17, 3)
    center, scale = (np.array([row[name] for row in rows], np.float32) for name in ("center", "scale"))
    people = People(
        files=(),
        image=np.zeros(len(rows), np.intp),
        image_ids=tuple(row["image_id"] for row in rows),
        source=np.arange(len(rows)),
        xyxy=np.zeros((len(rows), 4)),
        box_score=np.array([row["box_score"] for row in rows], np.float32),
    )
    records = to_results(POSETRACK, people, (center, scale * np.float32(200)), joints[..., :2], joints[..., 2])
    assert poseval_metrics(POSETRACK, sequences[0], records) == poseval_metrics(POSETRACK, *sequences)


def test_scores_may_stand_apart_or_in_the_keypoints(sequences: Any) -> None:
    coco, predictions = sequences
    expected = poseval_metrics(POSETRACK, coco, predictions)
    for entry in predictions:
        entry["keypoints"][2::3] = entry.pop("scores")
    assert poseval_metrics(POSETRACK, coco, predictions) == expected


def test_perfect_and_no_predictions(sequences: Any) -> None:
    coco, _ = sequences
    perfect = [{"image_id": p["image_id"], "keypoints": p["keypoints"]} for p in coco["annotations"]]
    seen = poseval_metrics(POSETRACK, coco, perfect)
    assert set(seen.values()) == {1.0}
    assert set(poseval_metrics(POSETRACK, coco, []).values()) == {0.0}


def test_frames_that_nobody_annotated_do_not_count(sequences: Any) -> None:
    coco, predictions = sequences
    expected = poseval_metrics(POSETRACK, coco, predictions)
    coco["images"].append({"id": 5})
    predictions.append({"image_id": 5, "keypoints": [10.0] * 51, "scores": [1.0] * 17})
    assert poseval_metrics(POSETRACK, coco, predictions) == expected


def test_a_joint_on_the_border_of_an_ignored_region_counts() -> None:
    """Shapely's `contains`, which poseval asks, is false on edges and corners."""
    joints = np.zeros((17, 3))
    places = {16: (10, 50), 14: (10, 10), 12: (50, 100), 11: (50, 50), 13: (100, 75), 15: (300, 300)}  # x, y
    for joint, (x, y) in places.items():
        joints[joint] = x, y, 1
    region = {"ignore_regions_x": [[10, 100, 100, 10]], "ignore_regions_y": [[10, 10, 100, 100]]}
    person = {"image_id": 1, "bbox_head": [0, 0, 30, 40], "keypoints": joints.ravel().tolist()}
    coco = {"images": [{"id": 1, **region}], "annotations": [person]}
    found = [{"image_id": 1, "keypoints": joints.ravel().tolist()}]
    seen = dict(zip(POSETRACK.evaluated, joint_average_precision(POSETRACK, coco, found), strict=True))
    # 11 alone lies inside; the other labelled joints are on the left edge, a corner, two more edges, and outside
    assert {joint for joint, ap in seen.items() if ap == 1} == set(places) - {11}


@pytest.mark.parametrize(
    ("where", "field", "value", "message"),
    [
        ("annotations", "bbox_head", None, r"annotations\[1\] .*lacks 'bbox_head'"),
        ("annotations", "bbox_head", [1, 1, 0, 5], r"annotations\[1\] .*has the head box \[1, 1, 0, 5\]"),
        ("annotations", "keypoints", [0] * 45, r"annotations\[1\] .*45 numbers.*expected 51"),
        ("results", "image_id", 12, r"results\[1\].*is in image 12"),
        ("results", "keypoints", [float("nan")] * 51, r"results\[1\].*not finite"),
        ("results", "scores", None, r"results\[1\].*lacks 'scores'"),
        ("results", "scores", [1.0], r"results\[1\].*has 1 numbers in 'scores', expected 17"),
        ("images", "ignore_regions_x", [[1, 2]], r"image .* has ignore_regions_x of 1 .* and ignore_regions_y of 0"),
        ("images", "ignore_regions_x", 5, r"image .* has ignore regions that are not polygons"),
    ],
)
def test_bad_records_are_named(sequences: Any, where: str, field: str, value: Any, message: str) -> None:
    coco, predictions = sequences
    entry = {"annotations": coco["annotations"], "images": coco["images"], "results": predictions}[where][1]
    if value is None:
        del entry[field]
    else:
        entry[field] = value
    with pytest.raises(InputError, match=message):
        poseval_metrics(POSETRACK, coco, predictions)
