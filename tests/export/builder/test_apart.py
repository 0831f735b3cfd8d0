"""Calibration frames that are the gate's, or look like them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from posert.calib.overlap import EvaluationImages
from posert.export.builder.apart import FEWEST, apart
from posert.runtime.accuracy.frames import Frames
from posert.runtime.errors import CalibrationError

Image = NDArray[np.uint8]


def noise(seed: int) -> Image:
    small = np.random.default_rng(seed).integers(0, 256, (12, 16, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(small, (160, 120), interpolation=cv2.INTER_CUBIC), np.uint8)


def moved(image: Image) -> Image:
    """Another frame of the same fixed camera."""
    other = image.copy()
    other[40:50, 40:50] = 255 - other[40:50, 40:50]
    return other


def frames_of(images: Sequence[Image]) -> Frames:
    png = [cv2.imencode(".png", image)[1].tobytes() for image in images]
    records = [{"id": i, "file_name": f"{i:03}.png"} for i in range(len(images))]
    people = [{"id": i, "image_id": i, "keypoints": [9, 9, 2], "bbox": [5, 5, 40, 40]} for i in range(len(images))]
    coco = {"images": records, "annotations": people}
    return Frames(coco, lambda record: images[record["id"]], lambda name: png[int(name[:3])], "user", "mine.json")


def names(frames: Frames) -> list[str]:
    return [record["file_name"] for record in frames.coco["images"]]


HELD_OUT = [noise(i) for i in range(4)]
EVALUATION = EvaluationImages(
    [f"gate{i}.png" for i in range(4)], lambda n: cv2.imencode(".png", HELD_OUT[int(n[4])])[1].tobytes()
)
OTHERS = [noise(100 + i) for i in range(20)]


def test_frames_that_are_apart_stay_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    frames = frames_of(OTHERS)
    assert apart(frames, EVALUATION, names) is frames and not caplog.records


def test_frames_that_look_alike_are_left_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    frames = frames_of([*OTHERS[:5], *map(moved, HELD_OUT), *OTHERS[5:]])
    with caplog.at_level(logging.WARNING):
        left = apart(frames, EVALUATION, names)
    assert names(left) == [name for name in names(frames) if name not in ("005.png", "006.png", "007.png", "008.png")]
    assert {a["image_id"] for a in left.coco["annotations"]} == {r["id"] for r in left.coco["images"]}
    (said,) = (record.getMessage() for record in caplog.records)
    assert said == (
        "calibration: 4 of 24 images left out because they look like images of the evaluation set, such as '005.png' "
        "(like 'gate0.png'), '006.png' (like 'gate1.png'), '007.png' (like 'gate2.png')"
    )
    assert left.note == "mine.json; 4 of 24 images left out because they look like images of the evaluation set"


def test_lookalikes_that_are_allowed_stay_and_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    evaluation = EvaluationImages(
        ["gate0.png"], lambda n: cv2.imencode(".png", HELD_OUT[0])[1].tobytes(), allow_similar=True
    )
    frames = frames_of([*OTHERS[:3], moved(HELD_OUT[0])])
    with caplog.at_level(logging.WARNING):
        left = apart(frames, evaluation, names)
        assert apart(left, evaluation, names) is left  # told already
    assert names(left) == names(frames) and evaluation.suspects == {"003.png": "gate0.png"}
    assert left.note == "mine.json; 1 of 4 images look like images of the evaluation set (--allow-similar)"
    assert len(caplog.records) == 1
    with pytest.raises(CalibrationError, match="^1 calibration image is also"):
        apart(frames_of([HELD_OUT[0]]), evaluation, names)


def test_only_what_is_chosen_is_looked_at_and_others_are_chosen_in_its_place() -> None:
    frames = frames_of([*map(moved, HELD_OUT), *OTHERS])
    read: list[str] = []

    def noted(name: str) -> bytes:
        read.append(name)
        return frames.read(name)

    left = apart(replace(frames, read=noted), EVALUATION, lambda frames: names(frames)[:3])
    assert read == [f"{i:03}.png" for i in range(7)]  # four look alike; three others come in their place
    assert names(left) == names(frames)[4:]


def test_copies_are_refused_and_one_message_names_them_all() -> None:
    frames = frames_of([HELD_OUT[1], *OTHERS, HELD_OUT[3], moved(HELD_OUT[2])])
    with pytest.raises(CalibrationError) as error:
        apart(frames, EVALUATION, lambda frames: names(frames)[:1])
    said = "2 calibration images are also in the evaluation set: '000.png' (there 'gate1.png'), '021.png' (there "
    assert f"{said}'gate3.png'). " in str(error.value)


def test_too_few_left_is_an_error_that_says_what_is_needed() -> None:
    frames = frames_of([moved(HELD_OUT[i % 4]) for i in range(12)] + OTHERS[: FEWEST - 1])
    with pytest.raises(
        CalibrationError, match=r"^7 crops are left to calibrate on: 12 of 19 .* and 2 more. At least 8"
    ):
        apart(frames, EVALUATION, names)
    with pytest.raises(CalibrationError, match="^0 crops are left"):
        apart(frames_of([moved(HELD_OUT[0])] * 9), EVALUATION, names)
    few = frames_of(OTHERS[:2])  # a small set is the user's choice
    assert apart(few, EVALUATION, names) is few
