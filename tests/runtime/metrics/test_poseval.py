"""PoseTrack18's AP against poseval."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from posert.runtime.accuracy.metrics.poseval import joint_average_precision, poseval_metrics
from posert.runtime.accuracy.results import to_results
from posert.runtime.datasets import dataset
from posert.runtime.errors import InputError

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
    records = to_results(
        POSETRACK,
        [row["image_id"] for row in rows],
        joints[..., :2],
        joints[..., 2],
        np.array([row["box_score"] for row in rows], np.float32),
        np.array([row["center"] for row in rows], np.float32),
        np.array([row["scale"] for row in rows], np.float32) * np.float32(200),
    )
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
