"""The generator gives valid COCO data, the same on every run."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask
from pycocotools.coco import COCO

from posert.export.demo import people

COUNT = 24


@pytest.fixture(scope="module")
def generated() -> tuple[np.ndarray, dict[str, Any]]:
    return people.generate("val", COUNT)


def fingerprint(split: str, index: int, seed: int = 0) -> str:
    image, annotations = people.render(split, index, seed)
    return hashlib.sha256(image.tobytes() + json.dumps(annotations).encode()).hexdigest()


def test_an_image_depends_on_its_key_only() -> None:
    assert fingerprint("val", 5) == fingerprint("val", 5)
    code = (
        "import hashlib, json; from posert.export.demo import people; i, a = people.render('val', 5); "
        "print(hashlib.sha256(i.tobytes() + json.dumps(a).encode()).hexdigest())"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == fingerprint("val", 5)


def test_a_prefix_of_a_split_is_the_start_of_the_whole(generated: tuple[np.ndarray, dict[str, Any]]) -> None:
    images, labels = people.generate("val", 3)
    assert np.array_equal(images, generated[0][:3])
    assert labels["annotations"] == generated[1]["annotations"][: len(labels["annotations"])]


def test_splits_and_seeds_share_no_image() -> None:
    keys = [(split, index, seed) for split in people.SPLITS for index in range(4) for seed in (0, 1)]
    assert len({fingerprint(*key) for key in keys}) == len(keys)


def test_the_generator_loads_no_torch() -> None:
    code = "import sys, posert.export.demo.people; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_write_gives_what_pycocotools_reads(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "posert.export.demo.people", "--output", str(tmp_path), "--count", "3"]
    subprocess.run(command, check=True, capture_output=True)
    truth = COCO(str(tmp_path / "annotations.json"))
    images, labels = people.generate("val", 3)
    assert truth.dataset == json.loads(json.dumps(labels))
    assert sorted(truth.imgs) == [1, 2, 3]
    for entry, image in zip(truth.dataset["images"], images, strict=True):
        assert np.array_equal(cv2.imread(str(tmp_path / "images" / entry["file_name"])), image)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["annotations.json", "images"]


def test_ids_are_unique_and_refer_to_images(generated: tuple[np.ndarray, dict[str, Any]]) -> None:
    _, labels = generated
    ids = [a["id"] for a in labels["annotations"]]
    assert ids == list(range(1, len(ids) + 1))
    assert {a["image_id"] for a in labels["annotations"]} <= {i["id"] for i in labels["images"]}
    assert len(labels["images"]) == COUNT


def test_box_area_and_outline_tell_of_the_same_person(generated: tuple[np.ndarray, dict[str, Any]]) -> None:
    for a in generated[1]["annotations"]:
        x, y, w, h = a["bbox"]
        assert x >= 0 and y >= 0 and x + w <= people.WIDTH and y + h <= people.HEIGHT
        assert 60 <= a["area"] <= w * h
        filled = np.zeros((people.HEIGHT, people.WIDTH), np.uint8)
        outlines = [np.array(s, np.int32).reshape(-1, 2) for s in a["segmentation"]]
        for outline in outlines:
            cv2.fillPoly(filled, [outline], 1)
        rows, columns = np.nonzero(filled)
        # A speck of fewer than four points, seen past an occluder, has no polygon in COCO, yet is in the box.
        assert columns.min() >= x and rows.min() >= y and columns.max() < x + w and rows.max() < y + h
        # Holes (an arm on the hip) are inside the outline and outside the area.
        assert filled.sum() >= 0.95 * a["area"]
        rle = mask.merge(mask.frPyObjects(a["segmentation"], people.HEIGHT, people.WIDTH))
        # pycocotools' polygons run through pixel centres: it counts about half of the border pixels.
        assert mask.area(rle) > 0.7 * a["area"]


def test_keypoints_follow_the_rules_of_coco(generated: tuple[np.ndarray, dict[str, Any]]) -> None:
    seen = []
    for a in generated[1]["annotations"]:
        k = np.array(a["keypoints"]).reshape(17, 3)
        v = k[:, 2]
        seen.append(v)
        assert set(v) <= {0, 1, 2}
        assert a["num_keypoints"] == np.count_nonzero(v)
        assert (k[v == 0] == 0).all()
        labelled = k[v > 0]
        assert ((labelled[:, 0] >= 0) & (labelled[:, 0] <= people.WIDTH - 1)).all()
        assert ((labelled[:, 1] >= 0) & (labelled[:, 1] <= people.HEIGHT - 1)).all()
        assert (v[: people.FACE] != 1).all()  # nobody guesses a hidden eye
        assert np.count_nonzero(v == 2) >= 5 or a["num_keypoints"] == 0
    shares = [np.mean(np.array(seen) == value) for value in (0, 1, 2)]
    assert min(shares) > 0.02, "seen, hidden and missing joints all occur"


def test_visible_joints_lie_on_their_person(generated: tuple[np.ndarray, dict[str, Any]]) -> None:
    for a in generated[1]["annotations"]:
        x, y, w, h = a["bbox"]
        for px, py, v in np.array(a["keypoints"]).reshape(17, 3):
            # A joint is inside the body; rounding to a pixel moves it by half a pixel at most, and thin parts that an
            # occluder covers may put it one pixel outside what is seen.
            if v == 2:
                assert x - 1.5 <= px <= x + w + 0.5 and y - 1.5 <= py <= y + h + 0.5


def test_several_people_and_sizes_occur(generated: tuple[np.ndarray, dict[str, Any]]) -> None:
    labels = generated[1]
    counts = [sum(a["image_id"] == i["id"] for a in labels["annotations"]) for i in labels["images"]]
    assert {1, 2, 3} <= set(counts) and max(counts) <= 4
    heights = [a["bbox"][3] for a in labels["annotations"]]
    assert min(heights) < 110 and max(heights) > 200
