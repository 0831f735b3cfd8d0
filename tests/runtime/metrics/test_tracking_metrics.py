"""CLEAR MOT against py-motmetrics 1.4, PoseTrack18's MOTA against poseval, which counts with it."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from posert.runtime.datasets import dataset
from posert.runtime.errors import InputError
from posert.runtime.metrics.clear_mot import ClearMot
from posert.runtime.metrics.poseval import poseval_tracking
from posert.runtime.metrics.poseval_tracking import tracking_metrics

Golden = Callable[[str], Any]
POSETRACK = dataset("posetrack18")


def test_clear_mot(golden: Golden) -> None:
    """Random walks with misses, ghosts, exchanged and new ids."""
    for case in golden("g_posetrack_mota.json.gz")["random"]:
        count = ClearMot()
        for truth, found, distance in case["frames"]:
            near = np.array(distance, np.float64).reshape(len(truth), len(found))
            count.add(truth, found, np.where(near < 0, np.nan, near))
        seen = (count.objects, count.misses, count.false_positives, count.switches)
        assert seen == tuple(case["counts"][:4])
        np.testing.assert_allclose(count.mota, case["counts"][4])


def test_counts_add_up() -> None:
    a, b = ClearMot(), ClearMot()
    a.add([0, 1], [5], np.array([[0.1], [np.nan]]))
    b.add([0], [6, 7], np.array([[np.nan, np.nan]]))
    both = a + b
    assert (both.objects, both.misses, both.false_positives, both.switches) == (3, 2, 2, 0)
    assert np.isnan(ClearMot().mota)


@pytest.fixture
def clips(golden: Golden) -> Callable[[str], tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Annotations and predictions, whose ids are as in the golden of this name; a frame may lack them all."""
    file, expected = copy.deepcopy(golden("g_posetrack.json.gz")), golden("g_posetrack_mota.json.gz")

    def make(name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        coco = {key: [entry for part in file["gt"] for entry in part[key]] for key in ("images", "annotations")}
        results = []
        for part, ids in expected[name]["ids"].items():
            frames = {image for image, _ in ids}
            kept = [entry for entry in file["written_predictions"][part] if entry["image_id"] in frames]
            results += [{**entry, "track_id": number} for entry, (_, number) in zip(kept, ids, strict=True)]
        return coco, results

    return make


@pytest.mark.parametrize("name", ["written", "kept", "swapped"])
def test_mota(golden: Golden, clips: Any, name: str) -> None:
    expected = np.array(golden("g_posetrack_mota.json.gz")[name]["mota"]) / 100
    joints, _ = tracking_metrics(POSETRACK, *clips(name))
    np.testing.assert_allclose(joints, expected[:15], rtol=0, atol=1e-12)
    figures = poseval_tracking(POSETRACK, *clips(name))
    np.testing.assert_allclose(figures["MOTA Total"], expected[15], rtol=0, atol=1e-12)
    np.testing.assert_allclose(figures["MOTA Wri"], expected[[6, 11]].mean())  # as poseval prints it


def test_people_that_change_their_identity(clips: Any) -> None:
    coco, _ = clips("kept")
    perfect = [{key: person[key] for key in ("image_id", "keypoints", "track_id")} for person in coco["annotations"]]
    figures = poseval_tracking(POSETRACK, coco, perfect)
    assert figures["MOTA Total"] == 1 and figures["id switches"] == 0
    (first, *_), images = coco["annotations"], [image["id"] for image in coco["images"]]
    changed = [dict(entry) for entry in perfect]
    mine = [e for e in changed if e["track_id"] == first["track_id"] and images.index(e["image_id"]) in range(4, 10)]
    for entry in mine:
        entry["track_id"] = 77
    figures = poseval_tracking(POSETRACK, coco, changed)
    assert figures["id switches"] == 1 and figures["MOTA Total"] < 1


def test_results_without_identities(clips: Any, caplog: pytest.LogCaptureFixture) -> None:
    coco, results = clips("kept")
    plain = [{key: value for key, value in entry.items() if key != "track_id"} for entry in results]
    assert "MOTA Total" not in poseval_tracking(POSETRACK, coco, plain)
    with caplog.at_level(logging.WARNING):
        assert "MOTA Total" not in poseval_tracking(POSETRACK, coco, [{**entry, "track_id": 0} for entry in results])
    assert not caplog.records
    results[0]["track_id"] = results[1]["track_id"]
    with caplog.at_level(logging.WARNING):
        assert "MOTA Total" not in poseval_tracking(POSETRACK, coco, results)
    assert "repeats" in caplog.text


def test_refusals(clips: Any) -> None:
    coco, results = clips("kept")
    with pytest.raises(InputError, match="annotations.*lacks 'track_id'"):
        broken = [{k: v for k, v in entry.items() if k != "track_id"} for entry in coco["annotations"]]
        tracking_metrics(POSETRACK, {**coco, "annotations": broken}, results)
    with pytest.raises(InputError, match="a different whole number"):
        tracking_metrics(POSETRACK, coco, [{**entry, "track_id": 3} for entry in results])
    with pytest.raises(InputError, match="images.*lacks 'vid_id'"):
        images = [{k: v for k, v in image.items() if k != "vid_id"} for image in coco["images"]]
        tracking_metrics(POSETRACK, {**coco, "images": images}, results)
