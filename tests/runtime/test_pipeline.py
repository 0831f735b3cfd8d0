"""From a video to people: the demo's detector and pose network on generated clips."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from posert.export.demo.videos import FPS, clip
from posert.runtime import PoseEstimator, PosePipeline, batching, pipeline
from posert.runtime.cli.main import main
from posert.runtime.detection import Detector
from posert.runtime.errors import DetectorError, InputError
from posert.runtime.smoothing import OneEuro
from posert.runtime.tracking import Tracker

FRAMES = 24
CLIP = 0  # of the split val


@pytest.fixture(scope="module")
def files(demo_files: Path) -> Path:
    return demo_files


def pictures(index: int = CLIP) -> list[NDArray[np.uint8]]:
    return [frame for frame, _ in clip("val", index, FRAMES)]


@pytest.fixture(scope="module")
def pose(files: Path) -> PoseEstimator:
    return PoseEstimator(files / "demo.pose", threads=1)


@pytest.fixture(scope="module")
def detector(files: Path) -> Detector:
    return Detector(files / "detector.onnx", threads=1)


@pytest.mark.parametrize("options", [{"track": False}, {}, {"detect_every": 3}, {"smooth": True, "detect_every": 2}])
def test_a_stream_is_the_same_as_calls(pose: PoseEstimator, detector: Detector, options: dict[str, Any]) -> None:
    def opened() -> PosePipeline:
        smooth = OneEuro() if options.get("smooth") else None
        return PosePipeline(pose, detector, **{**options, "smooth": smooth})

    frames = pictures()
    called, streamed = opened(), opened()
    one_by_one = [called(frame) for frame in frames]
    together = list(streamed.stream((frame, None) for frame in frames))
    assert len(together) == FRAMES
    for a, b in zip(one_by_one, together, strict=True):
        # float32: another session may sum in another order
        np.testing.assert_allclose(a.xy, b.xy, atol=2e-3)
        for name in ("ids", "detection_score", "raw"):
            first, second = getattr(a, name), getattr(b, name)
            assert (first is None) == (second is None)
            if first is not None:
                np.testing.assert_allclose(first, second, atol=2e-3)


def test_fewer_large_frames_are_taken(pose: PoseEstimator, detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    """The detector looks into one frame ahead of its turn where there is no room for more."""
    frames, taken = pictures(), 0

    def counted() -> Iterator[tuple[Any, None]]:
        nonlocal taken
        for frame in frames:
            taken += 1
            yield frame, None

    expected = list(PosePipeline(pose, detector, detect_every=2).stream((frame, None) for frame in frames))
    monkeypatch.setattr(pipeline, "_AHEAD_BYTES", frames[0].nbytes - 1)
    monkeypatch.setattr(batching, "_STREAM_BYTES", frames[0].nbytes - 1)
    for done, seen in enumerate(PosePipeline(pose, detector, detect_every=2).stream(counted())):
        np.testing.assert_allclose(seen.xy, expected[done].xy, atol=2e-3)
        assert taken <= done + 2


@pytest.mark.parametrize("every", [1, 3])
def test_the_people_of_the_clip_are_found_and_keep_their_ids(
    pose: PoseEstimator, detector: Detector, every: int
) -> None:
    pipeline = PosePipeline(pose, detector, detect_every=every)
    owner: dict[int, set[int]] = {}
    found = labelled = 0
    for frame, labels_of_frame in clip("val", CLIP, FRAMES):
        people = pipeline(frame)
        assert people.ids is not None and people.detection_score is not None
        assert len(people) == len(people.ids) == len(people.detection_score) and (people.ids >= 0).all()
        assert (people.detection_score > 0.5).all()
        for a in labels_of_frame:
            labels = np.array(a["keypoints"]).reshape(-1, 3)
            seen = labels[:, 2] > 0
            if seen.sum() < 8:
                continue
            labelled += 1
            size = np.hypot(*a["bbox"][2:])
            apart = np.linalg.norm(people.xy[:, seen] - labels[seen, :2], axis=2).mean(axis=1) / size
            if len(apart) and apart.min() < 0.1:
                found += 1
                owner.setdefault(a["track_id"], set()).add(int(people.ids[apart.argmin()]))
    assert found >= 0.9 * labelled > 0
    assert all(len(ids) == 1 for ids in owner.values()), owner


def test_boxes_of_the_caller_take_the_detectors_place(pose: PoseEstimator, detector: Detector) -> None:
    frame = pictures()[0]
    box = [[10.0, 20.0, 200.0, 300.0]]
    expected = pose(frame, box)
    people = PosePipeline(pose, detector, track=False)(frame, box)
    np.testing.assert_array_equal(people.xy, expected.xy)
    np.testing.assert_array_equal(people.boxes, expected.boxes)
    tracked = PosePipeline(pose)
    assert tracked(frame, box).ids == [0] and tracked(frame, box).ids == [0]
    assert len(tracked(frame, np.zeros((0, 4)))) == 0
    assert len(PosePipeline(pose, track=False)(frame)) == 1  # the whole frame


def test_nobody_in_the_frame_is_nobody(pose: PoseEstimator, detector: Detector) -> None:
    grey = np.full((360, 480, 3), 128, np.uint8)
    pipeline = PosePipeline(pose, detector, detect_every=2)
    assert [len(people) for people in pipeline.stream((grey, None) for _ in range(5))] == [0] * 5


def test_raw_joints_stay_beside_smoothed_ones(pose: PoseEstimator, detector: Detector) -> None:
    plain, smoothed = PosePipeline(pose, detector), PosePipeline(pose, detector, smooth=OneEuro(), fps=FPS)
    moved = 0.0
    for frame in pictures():
        a, b = plain(frame), smoothed(frame)
        assert a.raw is None and b.raw is not None
        np.testing.assert_array_equal(a.xy, b.raw)
        moved += float(np.abs(b.xy - b.raw).sum())
    assert moved > 0


def test_another_video_begins_with_nobody(pose: PoseEstimator, detector: Detector) -> None:
    pipeline = PosePipeline(pose, detector, detect_every=4, smooth=OneEuro())
    frames = pictures()[:5]
    first = [pipeline(frame) for frame in frames]
    pipeline.reset()
    for a, b in zip(first, [pipeline(frame) for frame in frames], strict=True):
        np.testing.assert_array_equal(a.ids, b.ids)
        np.testing.assert_array_equal(a.xy, b.xy)


def test_a_frame_that_cannot_be_used_ends_the_stream_in_its_place(pose: PoseEstimator, detector: Detector) -> None:
    frames = [*pictures()[:4], np.zeros((4, 4), np.uint8), *pictures()[4:6]]
    for track in (True, False):
        stream = PosePipeline(pose, detector, track=track).stream((frame, None) for frame in frames)
        found = []
        with pytest.raises(InputError, match="frame is uint8"):
            for people in stream:
                found.append(people)
        assert len(found) == 4


def test_a_detector_that_fails_is_not_an_empty_scene(
    pose: PoseEstimator, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detector, "layout", replace(detector.layout, decode=_overflowed))
    with pytest.raises(DetectorError, match="infinite boxes"):
        PosePipeline(pose, detector)(pictures()[0])


def _overflowed(*arguments: Any) -> Any:
    from posert.runtime.detection import Candidates

    return Candidates(np.full((1, 4), np.inf, np.float32), np.ones(1, np.float32), np.zeros(1, np.int64))


def test_options_that_do_not_go_together(pose: PoseEstimator, detector: Detector) -> None:
    for options, message in (
        ({"detect_every": 2}, "detect_every=2"),
        ({"detector": detector, "detect_every": 0}, "detect_every=0"),
        ({"detector": detector, "detect_every": 2, "track": False}, "track=True"),
        ({"smooth": OneEuro(), "track": False}, "track=True"),
        ({"fps": 0.0}, "fps=0.0"),
    ):
        with pytest.raises(InputError, match=message):
            PosePipeline(pose, **options)


def test_a_tracker_of_ones_own(pose: PoseEstimator, detector: Detector) -> None:
    pipeline = PosePipeline(pose, detector, track=Tracker(new_score=0.999))
    assert all(len(pipeline(frame)) == 0 for frame in pictures()[:3])


class TestRun:
    """`posert run` with a detector."""

    def test_a_video_has_people_with_ids(self, files: Path, tmp_path: Path, capsys: Any) -> None:
        arguments = ["--detector", str(files / "detector.onnx"), "--detect-every", "3", "--threads", "1"]
        target = tmp_path / "out.mp4"
        sources = [str(files / "demo.pose"), str(files / "clip.mp4")]
        assert main(["run", *sources, *arguments, "--output", str(target)]) == 0
        said = capsys.readouterr()
        assert "yolox" in said.err and "detector.onnx" in said.err
        record = json.loads((tmp_path / "out.json").read_text())
        assert len(record["frames"]) == FRAMES and "yolox" in record["summary"]["detector"]
        people = [person for frame in record["frames"] for person in frame["people"]]
        assert len(people) >= 0.9 * FRAMES
        assert all({"id", "detection_score"} <= set(person) and "raw" not in person for person in people)
        assert target.stat().st_size > 1000

    @pytest.mark.parametrize("how", ["one-euro", "savitzky-golay"])
    def test_smoothed_joints_have_raw_ones_beside_them(self, files: Path, tmp_path: Path, how: str) -> None:
        arguments = ["--detector", str(files / "detector.onnx"), "--smooth", how, "--threads", "1"]
        target = tmp_path / "out.json"
        sources = [str(files / "demo.pose"), str(files / "clip.mp4")]
        assert main(["run", *sources, *arguments, "--output", str(target)]) == 0
        frames = json.loads(target.read_text())["frames"]
        assert [frame["frame"] for frame in frames] == list(range(FRAMES))
        raw = np.array([person["raw"] for frame in frames for person in frame["people"]])
        smooth = np.array([person["keypoints"] for frame in frames for person in frame["people"]])[..., :2]
        assert raw.shape == smooth.shape and 0 < np.abs(raw - smooth).mean() < 5

    def test_a_table_has_raw_joints_too(self, files: Path, tmp_path: Path) -> None:
        arguments = ["--detector", str(files / "detector.onnx"), "--smooth", "one-euro", "--threads", "1"]
        sources = [str(files / "demo.pose"), str(files / "clip.mp4")]
        for name in ("out.csv", "out.json"):
            assert main(["run", *sources, *arguments, "--output", str(tmp_path / name)]) == 0
        with (tmp_path / "out.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        people = [p for frame in json.loads((tmp_path / "out.json").read_text())["frames"] for p in frame["people"]]
        assert len(rows) == len(people)
        for row, person in zip(rows, people, strict=True):
            assert float(row["nose_raw_x"]) == person["raw"][0][0] and float(row["nose_x"]) == person["keypoints"][0][0]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--detect-every", "2"), "--detect-every"),
            (("--smooth", "one-euro"), "--smooth"),
            (("--track",), "--track needs boxes"),
            (("--detector", "DETECTOR", "--boxes", "BOXES"), "--boxes and --detector"),
            (("--detector", "DETECTOR", "--no-track", "--detect-every", "2"), "--detect-every"),
            (("--detector", "DETECTOR", "--detect-class", "giraffe"), "giraffe"),
            (("--detector", "DETECTOR", "--detector-layout", "yolo9000"), "yolo9000"),
            (("--detector", "missing.onnx"), "missing.onnx"),
            (("--detector", "BUNDLE"), "demo.pose"),
        ],
    )
    def test_what_does_not_go_together_is_told_before_any_work(
        self, files: Path, tmp_path: Path, capsys: Any, options: tuple[str, ...], message: str
    ) -> None:
        (tmp_path / "boxes.json").write_text("{}")
        known = {"DETECTOR": files / "detector.onnx", "BUNDLE": files / "demo.pose", "BOXES": tmp_path / "boxes.json"}
        given = [str(known.get(option, option)) for option in options]
        target = tmp_path / "out.json"
        arguments = ["run", str(files / "demo.pose"), str(files / "clip.mp4"), *given, "--output", str(target)]
        assert main(arguments) == 2
        assert message in capsys.readouterr().err and not target.exists()
