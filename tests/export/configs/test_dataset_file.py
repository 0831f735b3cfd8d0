"""Joints from the data set files that people have at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from posert.export.configs import Joints, read_joints
from posert.export.configs.dataset_file import guess_pairs
from posert.export.configs.files import MAX_TEXT
from posert.runtime.datasets import dataset
from posert.runtime.errors import ConfigError

COCO = dataset("coco")
# As cocodataset.org writes it: counted from 1.
CATEGORY = {
    "id": 1,
    "name": "person",
    "keypoints": list(COCO.keypoints),
    "skeleton": [[a + 1, b + 1] for a, b in COCO.skeleton],
}
MOUSE = "name: mouse\nkeypoints: [nose, paw_l, paw_r]\nsigmas: [0.1, 0.2, 0.2]\n"


def read(folder: Path, text: str, name: str = "mice.yaml") -> Joints:
    (folder / name).write_text(text)
    return read_joints(folder / name)


@pytest.mark.parametrize(
    "text",
    [
        MOUSE + "flip_pairs: [[1, 2]]\nskeleton: [[0, 1], [0, 2]]",
        MOUSE + "flip_pairs: [[paw_l, paw_r]]\nskeleton: [[nose, paw_l], [nose, paw_r]]",
        MOUSE + "flip_idx: [0, 2, 1]\nskeleton: [[0, paw_l], [0, 2]]",
        '{"name": "mouse", "keypoints": ["nose", "paw_l", "paw_r"], "flip_pairs": [[1, 2]], '
        '"skeleton": [[0, 1], [0, 2]],'
        '"sigmas": [0.1, 0.2, 0.2]}',
    ],
)
def test_the_projects_own_form(tmp_path: Path, text: str) -> None:
    expected = Joints("mouse", ("nose", "paw_l", "paw_r"), ((1, 2),), ((0, 1), (0, 2)), (0.1, 0.2, 0.2))
    assert read(tmp_path, text) == expected


def test_names_alone(tmp_path: Path) -> None:
    found = read(tmp_path, "keypoints: [nose, left_ear, right_ear, tail]")
    assert (found.name, found.flip_pairs, found.skeleton, found.sigmas) == ("mice", ((1, 2),), (), ())
    assert "guessed" in found.notes[0] and "left_ear/right_ear" in found.notes[0]
    assert read(tmp_path, "keypoints: [left_ear, right_ear]\nflip_pairs: []").flip_pairs == ()  # stated: none


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (("nose", "left_eye", "right_eye"), ((1, 2),)),
        (("LeftEye", "RightEye"), ((0, 1),)),
        (("eye_l", "eye_r", "eyelid"), ((0, 1),)),
        (("l_eye", "r_eye"), ((0, 1),)),
        (("L_F_Paw", "R_F_Paw", "L_B_Paw", "R_B_Paw"), ((0, 1), (2, 3))),
        (("kneeL", "kneeR"), ((0, 1),)),
        (("tail", "train", "leg", "reg"), ()),
        (("left", "right"), ((0, 1),)),
        (("left_eye", "nose"), ()),
    ],
)
def test_guessed_pairs(names: tuple[str, ...], pairs: Any) -> None:
    assert guess_pairs(names) == pairs


@pytest.mark.parametrize("large", [False, True])
def test_the_categories_of_coco_annotations(tmp_path: Path, large: bool) -> None:
    """The skeleton counts from 1; what COCO leaves out, posert knows for the same joints."""
    annotations = [{"id": i, "keypoints": [0] * 51, "category_id": 1} for i in range(10_000 if large else 1)]
    for order in (("annotations", "categories"), ("categories", "annotations")):
        values = {"annotations": annotations, "categories": [CATEGORY, {"id": 2, "name": "box"}]}
        text = json.dumps({name: values[name] for name in order})
        assert (len(text) > MAX_TEXT) == large
        found = read(tmp_path, text, "annotations.json")
        assert (found.name, found.keypoints, found.flip_pairs) == ("coco", COCO.keypoints, COCO.flip_pairs)
        assert (found.skeleton, found.sigmas) == (COCO.skeleton, COCO.sigmas)
        assert any("sigmas" in note and "coco" in note for note in found.notes)


def test_other_categories_guess_their_pairs(tmp_path: Path) -> None:
    category = {"id": 1, "name": "mouse", "keypoints": ["nose", "left_paw", "right_paw"], "skeleton": [[1, 2], [1, 3]]}
    found = read(tmp_path, json.dumps({"categories": [category]}), "mice.json")
    assert found == Joints("mouse", ("nose", "left_paw", "right_paw"), ((1, 2),), ((0, 1), (0, 2)), (), found.notes)
    assert "guessed" in found.notes[0]


def test_ultralytics(tmp_path: Path) -> None:
    found = read(tmp_path, "path: x\nkpt_shape: [3, 3]\nflip_idx: [0, 2, 1]\nnames: {0: mouse}")
    assert (found.keypoints, found.flip_pairs) == (("joint0", "joint1", "joint2"), ((1, 2),))
    assert "the file has none" in found.notes[0]
    named = read(tmp_path, "kpt_shape: [2, 2]\nkpt_names:\n  0: [a, b]")
    assert named.keypoints == ("a", "b") and "no flip_idx" in named.notes[0]


INFO = {
    "dataset_name": "mine",
    "keypoint_info": {0: {"name": "a", "swap": "b"}, 1: {"name": "b", "swap": "a"}, 2: {"name": "c", "swap": ""}},
    "skeleton_info": {0: {"link": ("a", "c")}},
    "sigmas": [],
}


def test_mmposes_form(tmp_path: Path) -> None:
    expected = Joints("mine", ("a", "b", "c"), ((0, 1),), ((0, 2),))
    assert read(tmp_path, f"dataset_info = {INFO!r}", "mine.py") == expected
    assert read(tmp_path, json.dumps(INFO), "mine.json") == expected
    assert read(tmp_path, json.dumps({"dataset_info": INFO}), "mine.json") == expected


def test_joints_of_a_known_data_set_take_its_name(tmp_path: Path) -> None:
    found = read(tmp_path, json.dumps({"name": "mine", "keypoints": COCO.keypoints}))
    assert (found.name, found.sigmas) == ("coco", COCO.sigmas)


def test_a_borrowed_name_is_not_kept(tmp_path: Path) -> None:
    """A mouse of 17 joints that is called coco is no COCO."""
    found = read(tmp_path, json.dumps({"name": "coco", "keypoints": [f"x{i}" for i in range(17)]}))
    assert found.name == "coco-17" and "has other joints" in found.notes[-1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x", "the joints are missing"),
        ("keypoints: []", "0 joints"),
        ("keypoints: [a, a]", "same name: a"),
        ("keypoints: [a, 5]", r"keypoints\[1\] is 5; expected a text"),
        ("keypoints: [a, b]\nflip_pairs: [[0, 2]]", r"flip_pairs\[0\]\[1\] is 2; expected a joint from 0 to 1"),
        ("keypoints: [a, b]\nflip_pairs: [[a, d]]", "is 'd'; expected a joint, such as 'a'"),
        ("keypoints: [a, b]\nflip_pairs: [[a, b], [b, a]]", "a joint in two flip pairs"),
        ("keypoints: [a, b]\nflip_idx: [0]", "for each of 2 joints"),
        ("keypoints: [a, b, c]\nflip_idx: [1, 2, 0]", "for each of 3 joints"),
        ("keypoints: [a, b]\nsigmas: [0.1]", "1 sigmas for 2 joints"),
        ("keypoints: [a, b]\nsigmas: [0.1, 0]", "not above 0"),
        ("keypoints: [a, b]\nsigma: [0.1, 0.1]", "unknown sigma"),
        ("kpt_shape: [0, 3]", "joints, 2 or 3"),
        ("- 1", "expected a mapping"),
        ("categories: [{name: a, keypoints: [x]}, {name: b, keypoints: [y]}]", "one category with keypoints"),
        ("categories: [{name: a, keypoints: [x, y], skeleton: [[0, 1]]}]", "a joint from 1 to 2"),
        ("keypoint_info: {0: {name: a, swap: b}, 1: {name: b}}", "does not say so too"),
        ("keypoint_info: {1: {name: a}}", "the keys 0 to 0"),
        ("a: [", "not YAML"),
    ],
)
def test_refusals(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, text)
