"""OpenPose's folder: its documented order and fields, and Pose2Sim's own code as a reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posert.runtime.datasets import dataset
from posert.runtime.errors import InputError
from posert.runtime.pose.keypoints import Keypoints
from posert.runtime.results import FrameResult, Subject
from posert.runtime.results.openpose import BODY_25, COCO_18, body_order, reorder

# OpenPose, include/openpose/pose/poseParameters.hpp: POSE_BODY_25_BODY_PARTS and POSE_COCO_BODY_PARTS
DOCUMENTED_18 = [
    *("Nose", "Neck", "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist", "RHip", "RKnee", "RAnkle"),
    *("LHip", "LKnee", "LAnkle", "REye", "LEye", "REar", "LEar"),
]
DOCUMENTED_25 = [
    *(*DOCUMENTED_18[:8], "MidHip", *DOCUMENTED_18[8:]),
    *("LBigToe", "LSmallToe", "LHeel", "RBigToe", "RSmallToe", "RHeel"),
]
# The fields of a person as OpenPose 1.7 writes them, in its order.
FIELDS = [
    *("person_id", "pose_keypoints_2d", "face_keypoints_2d", "hand_left_keypoints_2d", "hand_right_keypoints_2d"),
    *("pose_keypoints_3d", "face_keypoints_3d", "hand_left_keypoints_3d", "hand_right_keypoints_3d"),
]
HALPE_26 = (
    *dataset("coco").keypoints,
    *("head", "neck", "hip", "left_big_toe", "right_big_toe", "left_small_toe", "right_small_toe"),
    *("left_heel", "right_heel"),
)


def documented(name: str) -> str:
    """A name of OpenPose's as ours: RSmallToe is right_small_toe."""
    side = {"R": "right_", "L": "left_"}.get(name[0], "") if name[1].isupper() else ""
    words = "".join(f"_{c.lower()}" if c.isupper() else c for c in (name[1:] if side else name)).lstrip("_")
    return "hip" if name == "MidHip" else side + words


def test_the_orders_are_the_documented_ones() -> None:
    assert list(BODY_25) == [documented(name) for name in DOCUMENTED_25]
    assert list(COCO_18) == [documented(name) for name in DOCUMENTED_18]


def test_each_joint_comes_from_its_own() -> None:
    names = dataset("coco").keypoints
    order = body_order(names)
    for wanted, joints in zip(COCO_18, order, strict=True):
        expected = ("left_shoulder", "right_shoulder") if wanted == "neck" else (wanted,)
        assert tuple(names[k] for k in joints) == expected
    # As AlphaPose's users turn Halpe's 26 joints into OpenPose's.
    halpe = [0, 18, 6, 8, 10, 5, 7, 9, 19, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3, 20, 22, 24, 21, 23, 25]
    assert body_order(HALPE_26) == [(k,) for k in halpe]
    whole = dataset("coco_wholebody").keypoints
    named = [tuple(whole[k] for k in joints) for joints in body_order(whole)]
    assert named[8] == ("left_hip", "right_hip") and named[19:22] == [
        ("left_big_toe",),
        ("left_small_toe",),
        ("left_heel",),
    ]


def test_a_joint_of_two_is_their_middle_with_the_lower_score() -> None:
    names = dataset("coco").keypoints
    xy, score = np.zeros((1, 17, 2), np.float32), np.full((1, 17), 0.5, np.float32)
    left, right = names.index("left_shoulder"), names.index("right_shoulder")
    xy[0, [left, right]], score[0, [left, right]] = [[10, 20], [30, 60]], [0.9, 0.4]
    score[0, names.index("nose")], score[0, names.index("left_eye")] = 1.3, -0.1
    xy[0, names.index("right_ear")] = np.nan
    people = Keypoints(xy, score, np.zeros((1, 4), np.float32), names)
    found = reorder(people, body_order(names)).reshape(18, 3)
    np.testing.assert_allclose(found[1], [20, 40, 0.4], atol=1e-4)  # four digits are written
    assert found[0, 2] == 1 and found[15, 2] == 0
    assert found[16].tolist() == [0, 0, 0]  # as OpenPose writes a joint that it has not found


def test_the_files_of_a_video(tmp_path: Path, make: Any) -> None:
    frames = make.write("openpose", tmp_path / "cam.openpose", make.VIDEO)
    files = sorted(p.name for p in (tmp_path / "cam.openpose").iterdir())
    assert files == [f"walk_{i:012d}_keypoints.json" for i in (0, 1, 2, 4)]  # frame 3 failed
    for i in (0, 1, 2, 4):
        content = json.loads((tmp_path / "cam.openpose" / f"walk_{i:012d}_keypoints.json").read_text())
        assert list(content) == ["version", "people"] and content["version"] == 1.3
        people = frames[i].people
        assert people is not None and people.ids is not None
        assert [p["person_id"] for p in content["people"]] == [[number] for number in people.ids.tolist()]
        for person, xy in zip(content["people"], people.xy, strict=True):
            assert list(person) == FIELDS and not any(person[f] for f in FIELDS[2:])
            joints = np.array(person["pose_keypoints_2d"]).reshape(18, 3)
            np.testing.assert_allclose(joints[0, :2], xy[0], atol=5e-5)


def test_the_files_of_images_and_of_people_without_ids(tmp_path: Path, make: Any) -> None:
    make.write("openpose", tmp_path / "a.openpose", make.IMAGES, make.results(make.IMAGES, ids=False))
    assert sorted(p.name for p in (tmp_path / "a.openpose").iterdir())[0] == "000007_keypoints.json"
    (person, _) = json.loads((tmp_path / "a.openpose" / "000007_keypoints.json").read_text())["people"]
    assert person["person_id"] == [-1]


def test_two_images_with_one_name_are_refused(tmp_path: Path, make: Any) -> None:
    subject = Subject("x", make.contract(), keys=("a.png", "b.png", "a.jpg"))
    with pytest.raises(InputError, match="two images are called a;"):
        make.write("openpose", tmp_path / "a.openpose", subject, [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["mpii", "aic"])
def test_what_is_no_body_of_openpose_is_refused(name: str, tmp_path: Path, make: Any) -> None:
    with pytest.raises(InputError, match="has no .* write .json, .csv or .parquet instead"):
        make.write("openpose", tmp_path / "a.openpose", Subject("v.mp4", make.contract(name)))
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_folder_is_replaced_and_no_other(tmp_path: Path, make: Any) -> None:
    path = tmp_path / "a.openpose"
    make.write("openpose", path, make.VIDEO, make.results(make.VIDEO, (1, 1, 1)))
    make.write("openpose", path, make.VIDEO, make.results(make.VIDEO, (1,)))
    assert [p.name for p in path.iterdir()] == ["walk_000000000000_keypoints.json"]
    (path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds notes.txt, and not only"):
        make.write("openpose", path, make.VIDEO)
    assert sorted(p.name for p in path.iterdir()) == ["notes.txt", "walk_000000000000_keypoints.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["a.openpose"]
    (tmp_path / "file.openpose").write_text("")
    with pytest.raises(InputError, match="not a folder"):
        make.write("openpose", tmp_path / "file.openpose", make.VIDEO)


@pytest.mark.parametrize(("name", "skeleton"), [("coco", "COCO"), ("coco_wholebody", "BODY_25")])
def test_pose2sim_reads_them(name: str, skeleton: str, tmp_path: Path, make: Any) -> None:
    """By its reader, and by the joint numbers of its skeleton for OpenPose's model."""
    association = pytest.importorskip("Pose2Sim.personAssociation")
    anytree = pytest.importorskip("anytree")
    subject = Subject("cam1.mp4", make.contract(name))
    frames: list[FrameResult] = make.write("openpose", tmp_path / "cam1_json.openpose", subject)
    paths = [str(p) for p in (tmp_path / "cam1_json.openpose").iterdir()]
    ordered = association.sort_stringlist_by_last_number(paths)
    people = frames[4].people
    assert people is not None
    joints = np.array(association.read_json(ordered[-1])).reshape(3, -1, 3)
    known = {documented(n.name): n.id for n in anytree.PreOrderIter(getattr(association, skeleton)) if n.id is not None}
    for joint in set(known) & set(people.names):
        np.testing.assert_allclose(joints[:, known[joint], :2], people.xy[:, people.names.index(joint)], atol=5e-5)
    assert len(set(known) & set(people.names)) > 12
