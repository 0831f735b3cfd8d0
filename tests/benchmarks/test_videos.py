"""Benchmarks of tracking and smoothing: labelled clips, what is counted, whole runs on a bundle, other trackers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from posert.benchmarks import smoothing, tracking
from posert.benchmarks.labelled_video import Detections, Frame, read_clips
from posert.benchmarks.posetrack18 import posetrack18
from posert.benchmarks.trackers import TRACKERS, open_tracker
from posert.export.demo import videos
from posert.runtime.accuracy.score import score_file
from posert.runtime.datasets import dataset
from posert.runtime.errors import BackendError, InputError
from posert.runtime.metrics.clear_mot import ClearMot
from posert.runtime.pose.keypoints import Keypoints

COCO = dataset("coco")
FRAMES = 6


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two clips of two people that move to the right, in pictures of noise; the second is hidden in the last frame."""
    rng = np.random.default_rng(0)
    images, people = [], []
    body = rng.uniform(0, 1, (17, 2)) * (40, 90)
    for clip in (7, 8):
        for frame in range(FRAMES):
            number, name = clip * 100 + frame, f"{clip}/{frame:03}.png"
            (tmp_path / str(clip)).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / name), rng.integers(0, 255, (120, 200, 3), np.uint8))
            images.append({"id": number, "file_name": name, "video_id": clip, "frame_id": frame})
            for who, x in enumerate((10, 100)):
                hidden = who == 1 and frame == FRAMES - 1
                xy = body + (x + 3 * frame, 15)
                joints = np.column_stack([xy, np.full(17, 0 if hidden else 2)])
                box = [x + 3 * frame, 10, 50, 100]
                common = {"id": number * 10 + who, "image_id": number, "category_id": 1, "track_id": who, "bbox": box}
                count = 0 if hidden else 17
                people.append({**common, "keypoints": joints.ravel().tolist(), "num_keypoints": count, "area": 2500})
    category = {"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}
    labels = {"images": images, "annotations": people, "categories": [category]}
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    return tmp_path


def test_clips_are_read(clips: Path) -> None:
    coco, found = read_clips(clips / "labels.json", clips)
    assert [clip.name for clip in found] == ["7", "8"] and len(coco["images"]) == 12
    assert [frame.number for frame in found[0].frames] == list(range(FRAMES))
    assert found[1].frames[2].read().shape == (120, 200, 3) and len(found[1].frames[2].people) == 2
    with pytest.raises(InputError, match="--images is the folder"):
        Frame(0, 0, clips / "none.png", ()).read()
    coco = json.loads((clips / "labels.json").read_text())
    del coco["images"][0]["video_id"]
    (clips / "labels.json").write_text(json.dumps(coco))
    with pytest.raises(InputError, match="no video_id and frame_id"):
        read_clips(clips / "labels.json", clips)


def test_detections(clips: Path) -> None:
    _, (clip, *_) = read_clips(clips / "labels.json", clips)
    frame = clip.frames[0]
    boxes, score = Detections(None).of(clip, frame)
    again, _ = Detections(None).of(clip, frame)
    np.testing.assert_array_equal(boxes, again)
    assert len(boxes) == len(score) and not np.array_equal(boxes, Detections(None, 1).of(clip, frame)[0])
    rows = [{"image_id": 700, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]
    (clips / "found.json").write_text(json.dumps(rows))
    given = Detections(clips / "found.json")
    boxes, score = given.of(clip, frame)
    assert boxes.tolist() == [[1, 2, 4, 6]] and score.tolist() == [0.5]
    assert len(given.of(clip, clip.frames[1])[0]) == 0  # a frame that the file has nothing for


def people_of(frame: Frame, shift: float = 0.0) -> Keypoints:
    labels = np.array([person["keypoints"] for person in frame.people], np.float32).reshape(-1, 17, 3)
    boxes = np.array([person["bbox"] for person in frame.people], np.float32)
    boxes[:, 2:] += boxes[:, :2]
    return Keypoints(labels[..., :2] + shift, np.full(labels.shape[:2], 0.9, np.float32), boxes, COCO.keypoints)


def test_what_is_counted(clips: Path) -> None:
    _, (clip, *_) = read_clips(clips / "labels.json", clips)
    sigmas, count = np.array(COCO.sigmas), ClearMot()
    for frame in clip.frames:
        ids = np.array([4, 5] if frame.number < 3 else [4, 6])  # a switch
        tracking._count(count, frame, people_of(frame), ids, sigmas)
    # the row of the person without labelled joints counts for nothing
    assert (count.objects, count.misses, count.false_positives, count.switches) == (11, 0, 0, 1)
    far = ClearMot()
    tracking._count(far, clip.frames[0], people_of(clip.frames[0], shift=60), np.array([0, -1]), sigmas)
    assert (far.objects, far.misses, far.false_positives) == (2, 2, 1)  # a dropped row is no result


def test_tracking_runs_and_resumes(narrow_bundle: Path, clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = clips / "out.jsonl"
    line = [str(narrow_bundle), str(clips / "labels.json"), str(clips), "--output", str(output), "--every", "1,3"]
    line += ["--trackers", "none,posert", "--precision", "fp32", "--results", str(clips / "results")]
    assert tracking.main(line) == 0
    first = capsys.readouterr()
    rows = [row for row in first.out.splitlines() if row.startswith("| ")][1:]
    assert [row.split(" | ")[:2] for row in rows] == [["| none", "1"], ["| posert", "1"], ["| posert", "3"]]
    written = {
        f"{name}{form}" for name in ("none_1", "posert_1", "posert_3") for form in (".json", ".posetrack18.json")
    }
    assert {path.name for path in (clips / "results").iterdir()} == written
    assert tracking.main(line) == 0
    second = capsys.readouterr()
    assert second.out == first.out and "detection in" in first.err and "detection in" not in second.err
    assert tracking.main([*line, "--trackers", "kalman"]) == 2
    assert "known are none, posert, rtmlib, bytetrack" in capsys.readouterr().err


def test_posetrack18_evaluates_the_results(tmp_path: Path) -> None:
    """The labelled joints, as results with ids, are nearly perfect for `posert evaluate`; changed ids are switches."""
    labels = json.loads(videos.write(tmp_path, "val", clips=1, frames=6).read_text())
    for changed in (False, True):
        results = []
        for person in labels["annotations"]:
            joints = np.array(person["keypoints"], float).reshape(-1, 3)
            joints[:, 2] = np.where(joints[:, 2] > 0, 0.9, 0.1)
            number = person["track_id"] + (100 if changed and person["image_id"] % 10_000 >= 3 else 0)
            results.append({"image_id": person["image_id"], "track_id": number, "keypoints": joints.ravel().tolist()})
        (tmp_path / "results.json").write_text(json.dumps(posetrack18(results)))
        said = score_file("posetrack18", tmp_path / "posetrack18" / "val", tmp_path / "results.json")["tracking"]
        assert said["id switches"] == (len({person["track_id"] for person in labels["annotations"]}) if changed else 0)
        if not changed:
            # the top of the head is no joint of COCO, and a face that is turned away is labelled in PoseTrack18 alone
            assert min(said[f"MOTA {name}"] for name in ("Shou", "Elb", "Wri", "Hip", "Knee", "Ankl")) > 0.95


def test_smoothing_runs(narrow_bundle: Path, clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = [str(narrow_bundle), str(clips / "labels.json"), str(clips), "--output", str(clips / "out.jsonl")]
    assert smoothing.main([*line, "--precision", "fp32"]) == 0
    rows = [row for row in capsys.readouterr().out.splitlines() if row.startswith("| ")][1:]
    assert [row.split(" | ")[1] for row in rows] == list(smoothing.FILTERS)


def moving(shift: float, noise: float = 0.0) -> smoothing.Rows:
    """One instance on a curve, seen `shift` frames late."""
    t = np.arange(80.0)

    def at(when: np.ndarray) -> np.ndarray:
        return np.stack([when * 3, 40 * np.sin(when * 0.1)], axis=-1)[:, None] + np.array([[0.0, 0], [30, 90]])

    zero, xy = np.zeros(80, np.int64), at(t - shift) + np.random.default_rng(0).normal(0, noise, (80, 2, 2))
    return smoothing.Rows(list(t), zero, t.astype(np.int64), zero, xy, np.ones((80, 2)), at(t), np.ones((80, 2), bool))


@pytest.mark.parametrize("shift", [-0.5, 0.0, 1.0, 2.0])
def test_lag(shift: float) -> None:
    rows = moving(shift)
    # the truth is taken as straight between a frame and its neighbours; it is a curve
    assert smoothing.lag(rows, rows.xy) == pytest.approx(shift, abs=0.05)


def test_filters_smooth() -> None:
    rows = moving(0, noise=2)
    raw = smoothing.figures(rows, rows.xy)
    for name, function in smoothing.FILTERS.items():
        seen = smoothing.figures(rows, function(rows, 25))
        if name != "raw":
            assert seen["acceleration_error"] < raw["acceleration_error"], name
        if name.startswith("Savitzky"):
            assert abs(seen["lag"]) < 0.1 and seen["error"] < raw["error"], name


@pytest.mark.parametrize("name", TRACKERS)
def test_trackers_keep_people_apart(name: str, clips: Path) -> None:
    """Each on the truth itself; those of other projects where they are installed."""
    for module in {"rtmlib": ["rtmlib"], "bytetrack": ["trackers", "supervision"]}.get(name, []):
        pytest.importorskip(module)
    _, (clip, *_) = read_clips(clips / "labels.json", clips)
    follower: Any = open_tracker(name, COCO.sigmas)
    seen = []
    for frame in clip.frames[:-1]:
        people = people_of(frame)
        boxes, score = follower.detected(people.boxes, np.full(2, 0.9), (120, 200))
        assert len(boxes) == 2
        seen.append(follower.update(people, score).tolist())
    if name == "none":
        assert np.unique(seen).size == 10
    else:
        assert len({tuple(ids) for ids in seen[2:]}) == 1 and len(set(seen[-1])) == 2  # ByteTrack wants two frames
    if TRACKERS[name].between:
        assert follower.between((120, 200)).shape == (2, 4)


def test_a_tracker_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "supervision", None)
    with pytest.raises(BackendError, match="bytetrack needs supervision: pip install rtmlib trackers supervision"):
        open_tracker("bytetrack", COCO.sigmas)
