"""Detectors and videos as nobody wants them, through the whole pipeline: told or handled, never wrong in silence."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from posert.runtime import PoseEstimator, PosePipeline
from posert.runtime.cli.main import main
from posert.runtime.detection import Detector
from posert.runtime.errors import DetectorError
from posert.runtime.smoothing import OneEuro
from posert.runtime.tracking import Tracker

Give = Callable[..., bytes]
SIDE = 256  # of the frames and of the detectors' input
CELLS = 1344  # of that
NOISE = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), np.uint8)


def end2end(*rows: tuple[float, ...]) -> dict[str, NDArray[np.float32]]:
    """ultralytics' output without duplicates, with these rows: x1, y1, x2, y2, score, class."""
    output = np.zeros((1, max(300, len(rows)), 6), np.float32)
    output[0, : len(rows)] = rows or output[0, :0]
    return {"output0": output}


def raw(*rows: tuple[float, ...]) -> dict[str, NDArray[np.float32]]:
    """ultralytics' raw output with these rows: cx, cy, w, h, score."""
    output = np.zeros((1, 5, CELLS), np.float32)
    for i, row in enumerate(rows):
        output[0, :, i] = row
    return {"output0": output}


@pytest.fixture(scope="module")
def pose(narrow_bundle: Path) -> PoseEstimator:
    return PoseEstimator(narrow_bundle, threads=1)


@pytest.fixture
def run(give: Give, narrow_bundle: Path, tmp_path: Path) -> Callable[..., int]:
    """`run(outputs, ...)`: the status of `posert run` on a video with a detector that gives these outputs."""

    def with_detector(outputs: Any, **settings: Any) -> int:
        model = give(outputs, **{"shape": (1, 3, SIDE, SIDE), **settings})
        (tmp_path / "detector.onnx").write_bytes(model)
        writer = cv2.VideoWriter(str(tmp_path / "v.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (SIDE, SIDE))
        for _ in range(3):
            writer.write(NOISE)
        writer.release()
        files = [str(narrow_bundle), str(tmp_path / "v.mp4"), "--detector", str(tmp_path / "detector.onnx")]
        return main(["run", *files, "--threads", "1", "--output", str(tmp_path / "out.json")])

    return with_detector


@pytest.mark.parametrize(
    ("outputs", "settings", "message"),
    [
        ({"logits": np.zeros((1, 1000), np.float32)}, {}, "classifier"),
        ({"out": np.zeros((1, 21, 32, 32), np.float32)}, {}, "segmentation"),
        (raw((60, 60, 20, 30, np.nan)), {}, "output0 holds NaN or infinity"),
        (end2end((np.inf, 0, 9, 9, 0.9, 0)), {}, "output0 holds NaN or infinity"),
    ],
)
def test_a_run_with_what_is_no_detector_ends_and_leaves_nothing(
    outputs: Any, settings: Any, message: str, run: Callable[..., int], tmp_path: Path, capsys: Any
) -> None:
    assert run(outputs, **settings) == 2
    assert message in capsys.readouterr().err
    record = tmp_path / "out.json"
    # What was done before the error is kept; here it is nothing.
    assert not record.exists() or json.loads(record.read_text())["frames"] == []


@pytest.mark.parametrize(
    "settings",
    [{}, {"dtype": 10}, {"dtype": 2}, {"shape": ("N", 3, SIDE, SIDE)}, {"shape": (1, SIDE, SIDE, 3)}],
    ids=["float32", "float16", "uint8", "batch", "channels_last"],
)
def test_a_run_with_any_kind_of_input(settings: Any, run: Callable[..., int], tmp_path: Path) -> None:
    assert run(raw((60, 60, 40, 60, 0.9)), **settings) == 0
    frames = json.loads((tmp_path / "out.json").read_text())["frames"]
    boxes = [person["box"] for frame in frames for person in frame["people"]]
    np.testing.assert_allclose(boxes, [[40, 30, 80, 90]] * 3, atol=0.1)  # half precision


def test_open_shapes(give: Give, pose: PoseEstimator) -> None:
    model = give(raw((60, 60, 40, 60, 0.9)), shape=("N", 3, "height", "width"))
    people = PosePipeline(pose, Detector(model, size=SIDE, threads=1), track=False)(NOISE)
    np.testing.assert_allclose(people.boxes, [[40, 30, 80, 90]])


def test_nobody_is_found_and_the_run_says_so(
    run: Callable[..., int], tmp_path: Path, give: Give, pose: PoseEstimator, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(end2end()) == 0
    frames = json.loads((tmp_path / "out.json").read_text())["frames"]
    assert [frame["people"] for frame in frames] == [[], [], []]
    pipeline = PosePipeline(pose, Detector(give(end2end(), shape=(1, 3, SIDE, SIDE)), threads=1))
    with caplog.at_level(logging.WARNING, "posert"):
        assert sum(len(people) for people in pipeline.stream((NOISE, None) for _ in range(12))) == 0
    assert [m for m in caplog.messages if "nothing was found in the first 10 frames" in m]


def test_a_thousand_people(give: Give, pose: PoseEstimator) -> None:
    """All have their own row and id, in each frame."""
    x, y = np.meshgrid(np.arange(40) * 6, np.arange(25) * 10)
    rows = [(a, b, a + 5, b + 9, 0.9, 0) for a, b in zip(x.flat, y.flat, strict=True)]
    detector = Detector(give(end2end(*rows), shape=(1, 3, SIDE, SIDE)), threads=1)
    alone = PosePipeline(pose, detector, track=False)(NOISE)
    assert len(alone) == 1000 and np.isfinite(alone.xy).all()
    # Without sigmas boxes are compared: what a network of random weights finds in noise is no body.
    pipeline = PosePipeline(pose, detector, track=Tracker(min_joints=0))
    first, second = pipeline(NOISE), pipeline(NOISE)
    assert first.ids is not None and second.ids is not None
    assert len(np.unique(first.ids)) == len(first) > 0
    np.testing.assert_array_equal(first.ids, second.ids)


def test_two_boxes_of_one_person_are_one_person(give: Give, pose: PoseEstimator) -> None:
    """As two faces that a detector finds in one: a layout without NMS leaves both."""
    rows = [(60, 30, 140, 230, 0.9, 0), (62, 33, 143, 228, 0.8, 0)]
    detector = Detector(give(end2end(*rows), shape=(1, 3, SIDE, SIDE)), threads=1)
    assert len(PosePipeline(pose, detector, track=False)(NOISE)) == 2  # each box of a detector is a row
    tracked = PosePipeline(pose, detector)
    people = [tracked(NOISE) for _ in range(3)]
    assert [len(one) for one in people] == [1, 1, 1]
    assert len({int(one.ids[0]) for one in people if one.ids is not None}) == 1


class TestAnotherSize:
    """A stream that changes its size: old joints say nothing about the new frames."""

    SMALL = cv2.resize(NOISE, (SIDE // 2, SIDE // 2))
    FRAMES = (NOISE, NOISE, SMALL, SMALL, SMALL, NOISE)

    def pipeline(self, give: Give, pose: PoseEstimator, smooth: bool = True) -> PosePipeline:
        rows = [(10, 12, 110, 230, 0.9, 0), (140, 12, 240, 230, 0.8, 0)]
        detector = Detector(give(end2end(*rows), shape=(1, 3, SIDE, SIDE)), threads=1, placement="stretch")
        return PosePipeline(pose, detector, detect_every=4, smooth=OneEuro() if smooth else None)

    @pytest.mark.parametrize("stream", [True, False])
    def test_everything_starts_anew(
        self, stream: bool, give: Give, pose: PoseEstimator, caplog: pytest.LogCaptureFixture
    ) -> None:
        pipeline = self.pipeline(give, pose)
        with caplog.at_level(logging.WARNING, "posert"):
            if stream:
                found = list(pipeline.stream((frame, None) for frame in self.FRAMES))
            else:
                found = [pipeline(frame) for frame in self.FRAMES]
        assert [m.partition(":")[0] for m in caplog.messages if "px" in m] == [
            "frame 2 is 128x128 px, those before it 256x256",
            "frame 5 is 256x256 px, those before it 128x128",
        ]
        ids = [set(people.ids.tolist()) for people in found if people.ids is not None]
        assert len(ids) == 6 and ids[0] and ids[2] and ids[5]  # between detections nobody is found in noise
        assert not (ids[0] | ids[1]) & (ids[2] | ids[3] | ids[4]) and not ids[5] & set().union(*ids[:5])
        for number in (2, 5):  # as if nothing had been before: detected, and not smoothed with the past
            fresh = self.pipeline(give, pose)(self.FRAMES[number])
            np.testing.assert_allclose(found[number].boxes, fresh.boxes)
            np.testing.assert_allclose(found[number].xy, found[number].raw, atol=1e-4)
            np.testing.assert_allclose(found[number].xy, fresh.xy, atol=2e-3)  # as in test_pipeline

    def test_without_a_tracker_each_frame_stands_alone(self, give: Give, pose: PoseEstimator) -> None:
        detector = self.pipeline(give, pose).detector
        found = list(PosePipeline(pose, detector, track=False).stream((frame, None) for frame in self.FRAMES))
        np.testing.assert_allclose(found[2].boxes, found[0].boxes / 2)


def test_an_overflow_in_the_middle_of_a_video(give: Give, pose: PoseEstimator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The frames before it have their results."""
    detector = Detector(give(end2end((10, 12, 110, 230, 0.9, 0)), shape=(1, 3, SIDE, SIDE)), threads=1)
    decode, calls = detector._decode, 0

    def once(outputs: Any, *rest: Any) -> Any:
        nonlocal calls
        calls += 1
        return decode(tuple(o * np.float32(np.nan) for o in outputs) if calls == 4 else outputs, *rest)

    monkeypatch.setattr(detector, "_decode", once)
    found = []
    with pytest.raises(DetectorError, match="NaN or infinity"):
        for people in PosePipeline(pose, detector).stream((NOISE, None) for _ in range(8)):
            found.append(people)
    assert len(found) == 3
