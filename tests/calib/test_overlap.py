"""Copies of evaluation images are told from pictures that only look like one, and these from other pictures."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from posert.calib.looks import phash
from posert.calib.overlap import EvaluationImages, Overlap
from posert.export.demo import people
from posert.runtime.errors import CalibrationError

COPIES = {
    "jpeg": lambda x: cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, 30])[1],
    "half size": lambda x: png(cv2.resize(x, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)),
    "odd size": lambda x: png(cv2.resize(x, (301, 233))),
    "brighter": lambda x: png(np.clip(x * 1.1 + 8, 0, 255).astype(np.uint8)),
    "grey": lambda x: png(cv2.cvtColor(x, cv2.COLOR_BGR2GRAY)),
    "blurred": lambda x: png(cv2.GaussianBlur(x, (5, 5), 1)),
}


def png(image):
    return cv2.imencode(".png", image)[1]


@pytest.fixture(scope="module")
def pictures():
    images, _ = people.generate("val", 24)
    return np.asarray(images)


@pytest.fixture(scope="module")
def evaluation(pictures):
    return EvaluationImages([f"{i}.png" for i in range(12)], lambda n: png(pictures[int(n[:-4])]).tobytes())


def overlap(evaluation, image):
    return evaluation.overlap(["a"], lambda name: image.tobytes())


def test_the_same_file(pictures, evaluation):
    assert overlap(evaluation, png(pictures[3])) == Overlap({"a": "3.png"}, {})


@pytest.mark.parametrize("extension", [".bmp", ".webp"])
def test_the_same_pixels_in_another_file(extension, pictures, evaluation):
    lossless = [cv2.IMWRITE_WEBP_QUALITY, 101] if extension == ".webp" else []
    for i in range(12):
        assert overlap(evaluation, cv2.imencode(extension, pictures[i], lossless)[1]) == Overlap({"a": f"{i}.png"}, {})


def test_the_pixels_of_a_jpeg(pictures):
    """OpenCV shrinks a JPEG in another way than a PNG of its pixels, so their perceptual hashes may differ."""
    jpeg = [cv2.imencode(".jpg", x)[1] for x in pictures[:12]]
    evaluation = EvaluationImages([str(i) for i in range(12)], lambda name: jpeg[int(name)].tobytes())
    for i in range(12):
        assert overlap(evaluation, png(cv2.imdecode(jpeg[i], cv2.IMREAD_COLOR))) == Overlap({"a": str(i)}, {})


@pytest.mark.parametrize("kind", COPIES)
def test_copies_that_were_changed_look_alike(kind, pictures, evaluation):
    for i in range(12):
        assert overlap(evaluation, COPIES[kind](pictures[i])) == Overlap({}, {"a": f"{i}.png"})


def test_other_pictures_of_the_same_kind(pictures, evaluation):
    for i in range(12, 24):
        assert overlap(evaluation, png(pictures[i])) == Overlap({}, {})


def test_a_mirrored_picture_is_another_one(pictures, evaluation):
    assert overlap(evaluation, png(pictures[0][:, ::-1])) == Overlap({}, {})


def test_frames_of_a_fixed_camera_look_alike_and_are_no_copies(pictures):
    """One pixel is enough for another frame."""
    frames = [pictures[0].copy() for _ in range(3)]
    for i, frame in enumerate(frames):
        frame[7, 9 + i] = (250, 3, 90)
    evaluation = EvaluationImages(["0", "1"], lambda name: png(frames[int(name)]).tobytes())
    assert overlap(evaluation, png(frames[2])).copies == {}
    assert overlap(evaluation, png(frames[2])).similar["a"] in ("0", "1")
    bmp = cv2.imencode(".bmp", frames[1])[1]  # among frames that all look like it, the one that it is
    assert overlap(evaluation, bmp) == Overlap({"a": "1"}, {})


def test_the_error_names_ten_and_counts_the_others():
    Overlap({}, {"a": "b"}).refuse_copies()
    with pytest.raises(
        CalibrationError, match=r"^1 calibration image is also in the evaluation set: 'a' \(there 'b'\)\."
    ):
        Overlap({"a": "b"}, {}).refuse_copies()
    with pytest.raises(CalibrationError) as error:
        Overlap({f"{i}.png": "x" for i in range(13)}, {}).refuse_copies()
    text = str(error.value)
    assert "13 calibration images are" in text and "'9.png' (there 'x') and 3 more. " in text and "'10.png'" not in text


def test_images_without_a_perceptual_hash():
    """One colour says nothing, and what is no picture is refused elsewhere, by name."""
    assert phash(png(np.full((40, 40, 3), 7, np.uint8)).tobytes()) is None
    assert phash(b"") is None and phash(b"no picture") is None
    noise = np.random.default_rng(0).integers(0, 256, (7, 7, 3)).astype(np.uint8)
    assert phash(png(noise[:1]).tobytes()) is None and phash(png(noise[:, :1]).tobytes()) is None
    assert phash(png(noise).tobytes()) is not None
    blank = EvaluationImages(["a", "b"], lambda name: png(np.full((40, 40, 3), 7, np.uint8)).tobytes())
    assert overlap(blank, png(np.full((30, 40, 3), 9, np.uint8))) == Overlap({}, {})
    assert overlap(EvaluationImages([], lambda name: b""), np.frombuffer(b"anything", np.uint8)) == Overlap({}, {})
