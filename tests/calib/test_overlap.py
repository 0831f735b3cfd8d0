"""Copies of evaluation images are found however they were re-encoded; different pictures are not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from posert.calib.overlap import EvaluationImages, phash
from posert.export.demo import people

COPIES = {
    "jpeg": lambda x: cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, 30])[1],
    "bmp": lambda x: cv2.imencode(".bmp", x)[1],
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


def test_the_same_file(pictures, evaluation):
    assert evaluation.find_copy(png(pictures[3]).tobytes()) == "'3.png' (same sha256)"


@pytest.mark.parametrize("kind", COPIES)
def test_copies_that_were_changed(kind, pictures, evaluation):
    for i in range(12):
        found = evaluation.find_copy(COPIES[kind](pictures[i]).tobytes())
        assert found is not None and found.startswith(f"'{i}.png' (their perceptual hashes differ in ")


def test_other_pictures_of_the_same_kind(pictures, evaluation):
    for i in range(12, 24):
        assert evaluation.find_copy(png(pictures[i]).tobytes()) is None


def test_a_mirrored_picture_is_another_one(pictures, evaluation):
    assert evaluation.find_copy(png(pictures[0][:, ::-1]).tobytes()) is None


def test_images_without_a_perceptual_hash():
    """One colour says nothing, and what is no picture is refused elsewhere, by name."""
    assert phash(png(np.full((40, 40, 3), 7, np.uint8)).tobytes()) is None
    assert phash(b"") is None and phash(b"no picture") is None
    noise = np.random.default_rng(0).integers(0, 256, (7, 7, 3)).astype(np.uint8)
    assert phash(png(noise[:1]).tobytes()) is None and phash(png(noise[:, :1]).tobytes()) is None
    assert phash(png(noise).tobytes()) is not None
    blank = EvaluationImages(["a", "b"], lambda name: png(np.full((40, 40, 3), 7, np.uint8)).tobytes())
    assert blank.find_copy(png(np.full((30, 40, 3), 9, np.uint8)).tobytes()) is None
    assert EvaluationImages([], lambda name: b"").find_copy(b"anything") is None
