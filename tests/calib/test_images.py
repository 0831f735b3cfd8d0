"""The calibration set: who is drawn, that crops are the runtime's, provenance, and everything it refuses."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter

import cv2
import numpy as np
import pytest

from posert.calib.images import CalibrationSet, crops_from_coco, folder
from posert.runtime.accuracy.frames import box_frames
from posert.runtime.bundle.contract import Contract
from posert.runtime.datasets import dataset
from posert.runtime.errors import CalibrationError


@pytest.fixture(scope="module")
def contract():
    coco = dataset("coco")
    return Contract("coco", coco.keypoints, coco.flip_pairs, coco.skeleton, coco.sigmas, 48, 64, 12, 16)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Six PNG files of noise and annotations of three people in each, of unlike sizes, joints and occlusion."""
    path = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(6):
        cv2.imwrite(str(path / f"{i}.png"), rng.integers(0, 256, (200, 240, 3), np.uint8))
        images.append({"id": 10 + i, "file_name": f"{i}.png", "width": 240, "height": 200})
        for k in range(3):
            flags = rng.choice([0, 1, 2], 17, p=[0.3, 0.2, 0.5])
            flags[0] = 2
            joints = np.stack([rng.uniform(0, 200, 17), rng.uniform(0, 180, 17), flags], axis=1)
            side = [30, 80, 150][k]
            annotations.append(
                {
                    "id": 3 * i + k,
                    "image_id": 10 + i,
                    "bbox": [5.0, 7.0, side, 1.2 * side],
                    "area": side * side * 0.6,
                    "keypoints": joints.reshape(-1).tolist(),
                    "num_keypoints": int((flags > 0).sum()),
                    "iscrowd": 0,
                }
            )
    return path, {"images": images, "annotations": annotations}


def test_crops_have_the_contracts_shape_and_come_out_alike_twice(pictures, contract):
    path, annotations = pictures
    chosen = crops_from_coco(annotations, folder(path), contract, count=11)
    batches = list(chosen)
    assert sum(len(b) for b in batches) == len(chosen) == 11
    assert all(b.shape[1:] == (64, 48, 3) and b.dtype == np.uint8 for b in batches)
    again = list(crops_from_coco(annotations, folder(path), contract, count=11))
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(batches, chosen, strict=True)), "it can be iterated again"


def test_a_crop_is_what_opencv_cuts_out(pictures, contract):
    path, annotations = pictures
    chosen = crops_from_coco(annotations, folder(path), contract, count=18)
    crops = np.concatenate(list(chosen))
    assert len({(p.file_name, p.annotation) for p in chosen.people}) == 18
    for person, crop in zip(chosen.people, crops, strict=True):
        x1, y1, x2, y2 = person.box
        width = max(x2 - x1, (y2 - y1) * 48 / 64) * 1.25
        scale = 48 / width
        cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
        matrix = np.array([[scale, 0, 24 - scale * cx], [0, scale, 32 - scale * cy]])
        expected = cv2.warpAffine(cv2.imread(str(path / person.file_name)), matrix, (48, 64), flags=cv2.INTER_LINEAR)
        # the runtime rounds the matrix like the reference does: a few pixels may fall into the next 1/32 px
        assert (np.abs(crop.astype(int) - expected) > 8).mean() < 0.01


def test_boxes_are_jittered_a_little(pictures, contract):
    path, annotations = pictures
    original = {a["id"]: a["bbox"] for a in annotations["annotations"]}
    for p in crops_from_coco(annotations, folder(path), contract, count=18).people:
        x, y, w, h = original[p.annotation]
        off = np.abs(np.array(p.box) - [x, y, x + w, y + h]) / [w, h, w, h]
        assert 0 < off.max() <= 0.1


def test_strata_are_drawn_evenly(pictures, contract):
    path, annotations = pictures
    sample = crops_from_coco(annotations, folder(path), contract, count=9)
    everybody = Counter(p.stratum for p in crops_from_coco(annotations, folder(path), contract, count=18).people)
    counts = Counter(p.stratum for p in sample.people)
    assert set(counts) == set(everybody), "each kind of person is there"
    for s, n in counts.items():
        assert n == everybody[s] or n >= max(counts.values()) - 1, "no kind gets two more while another has people left"


def test_seed(pictures, contract):
    path, annotations = pictures
    sets = [
        {p.annotation for p in crops_from_coco(annotations, folder(path), contract, 6, seed).people} for seed in (0, 1)
    ]
    assert sets[0] != sets[1]


def test_provenance_names_files_with_their_sha256(pictures, contract):
    path, annotations = pictures
    chosen = crops_from_coco(annotations, folder(path), contract, count=7)
    record = chosen.provenance()
    assert json.loads(json.dumps(record)) == record
    assert record["people"] == 7 and sum(record["strata"].values()) == 7
    assert set(record["files"]) == {p.file_name for p in chosen.people} and record["images"] == len(record["files"])
    for name, digest in record["files"].items():
        assert digest == hashlib.sha256((path / name).read_bytes()).hexdigest()
    assert crops_from_coco(annotations, folder(path), contract, count=7).provenance() == record
    assert crops_from_coco(annotations, folder(path), contract, count=8).provenance()["sha256"] != record["sha256"]


def test_crowds_empty_boxes_and_people_without_joints_are_left_out(pictures, contract, caplog):
    path, annotations = pictures
    rows = [dict(a) for a in annotations["annotations"]]
    rows[0]["iscrowd"] = 1
    rows[1]["bbox"] = [5, 5, 0, 10]
    rows[2]["keypoints"] = [0] * 51
    rows[3]["bbox"] = [5, 5, float("nan"), 10]
    with caplog.at_level(logging.WARNING):
        chosen = crops_from_coco({**annotations, "annotations": rows}, folder(path), contract, count=100)
    assert {p.annotation for p in chosen.people} == set(range(4, 18))
    (said,) = (record.getMessage() for record in caplog.records)  # a crowd or a back is no mistake, such a box is
    assert said == (
        "calibration skips 2 of 18 people with a box that is not finite or at most 1 px wide or high, such as the "
        "box of annotation 1"
    )


@pytest.mark.parametrize("box", [[260, 5, 40, 50], [-60, 5, 50, 50], [10, 220, 50, 50], [10, -80, 50, 70]])
def test_a_box_outside_its_image_is_named(pictures, contract, box):
    path, annotations = pictures
    rows = [{**a, "bbox": box} if a["id"] == 7 else a for a in annotations["annotations"]]
    chosen = crops_from_coco({**annotations, "annotations": rows}, folder(path), contract, count=18)
    x, y, w, h = box
    said = f"the box of annotation 7, {x}, {y} to {x + w}, {y + h}, lies outside its image '2.png' of 240 x 200 px"
    with pytest.raises(CalibrationError, match=said):  # the box that was given, without the jitter
        list(chosen)


def test_a_box_outside_its_image_of_a_file_of_boxes(pictures, contract, tmp_path):
    path, _ = pictures
    (tmp_path / "boxes.csv").write_text(
        "file,x1,y1,x2,y2\n0.png,5,5,90,90\n1.png,5,5,90,90\n1.png,9000.1,9000,9100,9100.25\n"
    )
    frames = box_frames(tmp_path / "boxes.csv", path)
    with pytest.raises(CalibrationError, match=r"^box 1 of 1.png, 9000.1, 9000 to 9100, 9100.25, lies outside its "):
        list(crops_from_coco(frames.coco, frames.read, contract, count=18))


@pytest.mark.parametrize("box", [[239.5, 5, 40, 50], [-39.5, 5, 40, 50]])
def test_a_box_at_the_border_is_inside_whatever_the_jitter(pictures, contract, box):
    path, annotations = pictures
    rows = [{**a, "bbox": box} for a in annotations["annotations"]]
    for seed in range(4):
        chosen = crops_from_coco({**annotations, "annotations": rows}, folder(path), contract, 18, seed)
        assert sum(map(len, chosen)) == 18


def test_constant_images_are_refused_when_there_is_nothing_else(pictures, contract):
    path, annotations = pictures

    def read(name, left=()):
        grey = np.full((200, 240, 3), 90, np.uint8)
        return (path / name).read_bytes() if name in left else cv2.imencode(".png", grey)[1].tobytes()

    inner = [{**a, "bbox": [100, 80, 20, 30]} for a in annotations["annotations"]]  # far from the black border
    with pytest.raises(CalibrationError, match="each of the 18 calibration crops shows a single colour, .*'0.png'"):
        list(crops_from_coco({**annotations, "annotations": inner}, read, contract, count=18))
    some = crops_from_coco({**annotations, "annotations": inner}, lambda n: read(n, ("4.png",)), contract, count=18)
    assert sum(len(batch) for batch in some) == 18, "a black frame among pictures is what happens"


def test_one_person_is_a_set(pictures, contract):
    path, annotations = pictures
    chosen = crops_from_coco({**annotations, "annotations": annotations["annotations"][:1]}, folder(path), contract)
    assert [batch.shape for batch in chosen] == [(1, 64, 48, 3)]
    assert chosen.provenance()["people"] == 1


def test_boxes_alone(pictures, contract):
    """Without joints people are told apart by size alone."""
    path, annotations = pictures
    rows = [{**a, "keypoints": [], "num_keypoints": 0} for a in annotations["annotations"]]
    chosen = crops_from_coco({**annotations, "annotations": rows}, folder(path), contract, count=12)
    assert chosen.provenance()["strata"] == {"large/box": 6, "medium/box": 6}
    assert sum(len(batch) for batch in chosen) == 12


def test_unreadable_images_are_named(pictures, contract, tmp_path):
    path, annotations = pictures
    with pytest.raises(CalibrationError, match=r"'0.png' cannot be read: .*No such file"):
        list(crops_from_coco(annotations, folder(tmp_path), contract, count=18))
    for data in (b"", b"not a picture", (path / "2.png").read_bytes()[:40]):

        def read(name, data=data):
            return data if name == "2.png" else (path / name).read_bytes()

        with pytest.raises(CalibrationError, match=rf"'2.png' \({len(data)} bytes\).*decode"):
            list(crops_from_coco(annotations, read, contract, count=18))


def test_empty_and_foreign_annotations(pictures, contract):
    path, annotations = pictures
    with pytest.raises(CalibrationError, match="none of the 0 annotations"):
        crops_from_coco({**annotations, "annotations": []}, folder(path), contract)
    faults = [{"bbox": [5, 5, 0, 10]}, {"bbox": [5, 5, 9, 1]}, {"iscrowd": 1}, {"keypoints": [0] * 51}]
    rows = [{**a, **fault} for a, fault in zip(annotations["annotations"], faults, strict=False)]
    said = (
        "none of the 4 annotations can be calibrated on: 2 with a box that is .* at most 1 px wide or high, 1 of a "
        "crowd, 1 without a labelled joint. Expected .* or a file of boxes"
    )
    with pytest.raises(CalibrationError, match=said):
        crops_from_coco({**annotations, "annotations": rows}, folder(path), contract)
    with pytest.raises(CalibrationError, match="not COCO keypoints.*'images'"):
        crops_from_coco({"pictures": []}, folder(path), contract)
    with pytest.raises(CalibrationError, match="not COCO keypoints.*99"):
        rows = [{**annotations["annotations"][0], "image_id": 99}]
        crops_from_coco({**annotations, "annotations": rows}, folder(path), contract)
    with pytest.raises(CalibrationError, match="has no people"):
        CalibrationSet([], folder(path), contract)
