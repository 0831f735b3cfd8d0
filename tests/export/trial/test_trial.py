"""What the network sees of people: crops, maps and joints, and those of mirror images."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from posert.export.catalog import find
from posert.export.trial import read_photos, try_out
from posert.export.trial.network import turned_back
from posert.export.trial.photos import WHOLE
from posert.export.trial.sight import look, maps_of
from posert.runtime import PoseEstimator
from posert.runtime.bundle.contract import Contract
from posert.runtime.errors import InputError
from posert.runtime.pose.heads import head
from posert.runtime.selection import Selection

RIGHT: Contract = find("hrnet_demo").contract()


def test_joints_are_those_of_the_runtime(trying: Any) -> None:
    subjects = trying(RIGHT)
    sights, twins = look(subjects, np.array([3, 0]))
    pose = PoseEstimator.from_session(RIGHT, subjects.reference, Selection("onnx", "fp32", "test"))
    for sight, person in zip(sights, (3, 0), strict=True):
        frame = subjects.load(int(subjects.people.image[person]))
        found = pose(frame, subjects.people.xyxy[person][None])
        np.testing.assert_allclose(sight.xy, found.xy[0], atol=1e-3)
        np.testing.assert_allclose(sight.score, found.score[0], atol=1e-5)
        assert sight.labels is not None and sight.crop.shape == (256, 192, 3)
        assert sight.maps.shape == (17, 64, 48)
    assert twins.gap < 0.02 < 0.3 < twins.peak and twins.other_shift is not None and twins.other_shift > twins.gap
    assert twins.swapped_peak < twins.peak


def test_wrong_pairs_show_in_mirror_images(trying: Any) -> None:
    chosen = np.arange(8)
    wrong = look(trying(replace(RIGHT, flip_pairs=())), chosen)[1]
    assert wrong.gap > 5 * look(trying(RIGHT), chosen)[1].gap


def test_turned_back_is_what_a_flip_test_adds() -> None:
    rng = np.random.default_rng(0)
    for contract in (RIGHT, replace(RIGHT, flip_shift=False), replace(RIGHT, decode="simcc")):
        rule = head(contract.decode)
        plain, mirrored = (tuple(rng.random((2, *s)).astype(np.float32) for s in rule.shapes(contract)) for _ in "ab")
        both = tuple(np.concatenate(pair) for pair in zip(plain, mirrored, strict=True))
        for merged, one, other in zip(rule.merge(both, contract), plain, turned_back(mirrored, contract), strict=True):
            np.testing.assert_allclose(merged, (one + other) / 2, rtol=1e-6)


def test_maps_of_vectors_and_of_combined_outputs() -> None:
    x, y = np.zeros((1, 2, 6), np.float32), np.zeros((1, 2, 8), np.float32)
    x[0, 1, 4] = y[0, 1, 2] = 9
    assert np.argwhere(maps_of((x, y), 2)[0, 1]).tolist() == [[2, 4]] and maps_of((x, y), 2).max() == 9
    combined = np.arange(6, dtype=np.float32).reshape(1, 6, 1, 1)
    assert maps_of((combined,), 2).ravel().tolist() == [0, 3]


def test_labels_of_others_beside_photos(trying: Any, people: Any, tmp_path: Path) -> None:
    """`posert build --try`: the photos are shown, the gate's images judge."""
    subjects = trying(RIGHT)
    cv2.imwrite(str(tmp_path / "me.png"), subjects.load(0))
    trial = try_out(subjects.reference, read_photos(tmp_path / "me.png"), people, limit=4)
    assert (trial.people, trial.images, len(trial.sights)) == (1, 1, 1) and trial.note == WHOLE
    assert trial.judgement is not None and trial.judgement.images == 4 and trial.judgement.note
    assert trial.sights[0].labels is None and trial.sights[0].box.tolist() == [0, 0, 320, 240]
    json.dumps(trial.to_json(), allow_nan=False)


class TestPhotos:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for name in ("a.png", "b.jpg"):
            cv2.imwrite(str(tmp_path / name), np.zeros((40, 60, 3), np.uint8))
        return tmp_path

    def test_without_boxes_each_is_one_person(self, folder: Path) -> None:
        frames = read_photos(folder)
        assert [a["bbox"] for a in frames.coco["annotations"]] == [[0, 0, 60, 40]] * 2 and frames.note == WHOLE
        assert [frames.load(r).shape for r in frames.coco["images"]] == [(40, 60, 3)] * 2

    def test_boxes_of_one_photo(self, folder: Path) -> None:
        (folder / "boxes.json").write_text('{"b.jpg": [[1, 2, 11, 22], [5, 5, 9, 9]], "a.png": [[0, 0, 9, 9]]}')
        frames = read_photos(folder / "b.jpg", folder / "boxes.json")
        assert [a["bbox"] for a in frames.coco["annotations"]] == [[1, 2, 10, 20], [5, 5, 4, 4]]
        assert frames.note == "boxes of boxes.json"

    def test_refusals(self, folder: Path) -> None:
        with pytest.raises(InputError, match="no such file or folder"):
            read_photos(folder / "c.png")
        (folder / "boxes.json").write_text('{"b.jpg": [[9, 2, 1, 22]], "a.png": []}')
        with pytest.raises(InputError, match="b.jpg: box 0 is"):
            read_photos(folder, folder / "boxes.json")
        with pytest.raises(InputError, match="has no box for"):
            read_photos(folder / "a.png", folder / "boxes.json")
