"""Labelled frames from files: what is read, and what is refused before any work starts."""

from __future__ import annotations

import copy
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from posert.export.catalog import find
from posert.runtime.accuracy.frames import Frames, box_frames, read_frames, read_image
from posert.runtime.bundle.contract import Contract
from posert.runtime.datasets import dataset
from posert.runtime.errors import InputError
from posert.runtime.metrics.oks import evaluate_oks
from posert.runtime.metrics.oks_parts import wholebody_metrics

IMAGES = 7


def picture(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (20, 30 + index, 3), np.uint8)


def annotation(id: int, image: int, **changes: Any) -> dict[str, Any]:
    joints = [[5, 6, 2], [7, 8, 1], [0, 0, 0]]
    record = {"id": id, "image_id": image, "category_id": 1, "bbox": [1, 2, 10, 12], "area": 80.0, "iscrowd": 0}
    return {**record, "keypoints": sum(joints, []), "num_keypoints": 2, **changes}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images")
    for i in range(IMAGES):
        cv2.imwrite(str(path / f"{i}.png"), picture(i))
    return path


@pytest.fixture
def content() -> dict[str, Any]:
    """Image 2 has a crowd only, image 3 a person without joints, image 4 nobody; image 5 two people."""
    people = [(10, 0, {}), (11, 1, {}), (12, 2, {"iscrowd": 1}), (13, 3, {"num_keypoints": 0}), (14, 5, {})]
    return {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in range(IMAGES)],
        "annotations": [annotation(id, image, **changes) for id, image, changes in [*people, (15, 5, {}), (16, 6, {})]],
        "categories": [{"id": 1, "name": "person"}],
    }


def read(folder: Path, content: Any, **options: Any) -> Frames:
    path = folder / "labels.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_frames(path, folder, **options)


def test_images_with_people_and_all_their_annotations(folder: Path, content: dict[str, Any]) -> None:
    frames = read(folder, content)
    assert [r["id"] for r in frames.coco["images"]] == [0, 1, 5, 6]
    assert [a["id"] for a in frames.coco["annotations"]] == [10, 11, 14, 15, 16]
    assert frames.coco["categories"] == content["categories"]
    assert frames.kind == "user" and "labels.json, 4 of 7 images" in frames.note
    for record in frames.coco["images"]:
        np.testing.assert_array_equal(frames.load(record), picture(record["id"]))
        assert frames.read(record["file_name"]) == (folder / record["file_name"]).read_bytes()


def test_annotations_without_any_area_are_read(folder: Path, content: dict[str, Any]) -> None:
    """As AIC, CrowdPose and PoseTrack18 publish them; which area the OKS takes is said."""
    for a in content["annotations"]:
        del a["area"]
    frames = read(folder, content)
    assert len(frames.labelled()) == 5 and frames.note.endswith("annotated boxes; OKS with 0.53 of their area")


def test_what_follows_from_the_joints_need_not_be_there(folder: Path, content: dict[str, Any]) -> None:
    expected = [sum(v > 0 for v in a["keypoints"][2::3]) for a in content["annotations"]]
    for a in content["annotations"]:
        del a["area"], a["num_keypoints"], a["bbox"]
    frames = read(folder, content)
    counted = {a["id"]: a["num_keypoints"] for a in frames.coco["annotations"]}
    given = dict(zip([a["id"] for a in content["annotations"]], expected, strict=True))
    assert counted and all(given[id] == count for id, count in counted.items())
    assert "boxes around the joints" in frames.note


@pytest.mark.parametrize(
    ("limit", "ids"), [(1, [0]), (2, [0, 6]), (3, [0, 1, 6]), (4, [0, 1, 5, 6]), (99, [0, 1, 5, 6])]
)
def test_a_limit_spreads_over_the_file(folder: Path, content: dict[str, Any], limit: int, ids: list[int]) -> None:
    assert [r["id"] for r in read(folder, content, limit=limit).coco["images"]] == ids


def test_annotations_that_are_not_utf8_or_have_a_foreign_name_are_read(folder: Path, content: dict[str, Any]) -> None:
    content["images"][0]["file_name"] = "größe 体.png"
    (folder / "größe 体.png").write_bytes((folder / "0.png").read_bytes())
    path = folder / "labels.json"
    path.write_bytes(json.dumps(content, ensure_ascii=False).encode())
    frames = read_frames(path, folder)
    np.testing.assert_array_equal(frames.load(frames.coco["images"][0]), picture(0))


class TestRefused:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "not a JSON"),
            ("{", "not a JSON"),
            ("[]", "images"),
            ('{"images": []}', "annotations"),
            ('{"images": 5, "annotations": []}', "images"),
        ],
    )
    def test_files_of_another_kind(self, folder: Path, content: str, message: str) -> None:
        with pytest.raises(InputError, match=message):
            read(folder, content)

    @pytest.mark.parametrize("field", ["id", "image_id", "bbox", "area", "keypoints", "num_keypoints"])
    def test_annotations_without_a_field(self, folder: Path, content: dict[str, Any], field: str) -> None:
        del content["annotations"][3][field]
        with pytest.raises(InputError, match=rf"annotations\[3\].*lacks '{field}'"):
            read(folder, content)

    def test_joints_of_other_names_or_in_another_order(self, folder: Path, content: dict[str, Any]) -> None:
        contract = Contract("three", ("nose", "left ear", "right ear"), ((1, 2),), (), (), 8, 8, 2, 2)
        category = content["categories"][0]
        for names in (["snout", "tail", "paw"], ["nose", "right_ear", "left_ear"]):
            category["keypoints"] = names
            with pytest.raises(
                InputError, match=rf"the 3 joints {', '.join(names)}, the model .three. has the 3 joints"
            ):
                read(folder, content).with_joints_of(contract)
        category["keypoints"] = ["Nose", "left_ear", "right_ear"]
        read(folder, content).with_joints_of(contract)

    @pytest.mark.parametrize("field", ["id", "file_name"])
    def test_images_without_a_field(self, folder: Path, content: dict[str, Any], field: str) -> None:
        del content["images"][1][field]
        with pytest.raises(InputError, match=rf"images\[1\].*lacks '{field}'"):
            read(folder, content)

    @pytest.mark.parametrize("bbox", [[1, 2, 3], "1 2 3 4", [1, 2, None, 4], None, [1, 2, 3, float("nan")]])
    def test_boxes_that_are_none(self, folder: Path, content: dict[str, Any], bbox: Any) -> None:
        content["annotations"][2]["bbox"] = bbox
        with pytest.raises(InputError, match=r"annotations\[2\].*bbox"):
            read(folder, content)

    @pytest.mark.parametrize("keypoints", [7, None, "1 2 3", ["a", 1, 2], [1, None, 2], [True, 1, 2]])
    def test_joints_that_are_none(self, folder: Path, content: dict[str, Any], keypoints: Any) -> None:
        content["annotations"][2]["keypoints"] = keypoints
        with pytest.raises(InputError, match=r"annotations\[2\].*keypoints.*numbers"):
            read(folder, content)

    @pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), 1e30, 10**200])
    def test_joints_that_are_nowhere(self, folder: Path, content: dict[str, Any], number: float) -> None:
        content["annotations"][2]["keypoints"][4] = number
        id = content["annotations"][2]["id"]
        with pytest.raises(InputError, match=rf"annotations\[2\] \(id {id}\) has NaN, infinity or a number beyond"):
            read(folder, content)

    def test_annotations_that_are_no_objects(self, folder: Path, content: dict[str, Any]) -> None:
        content["annotations"][0] = 5
        with pytest.raises(InputError, match=r"annotations\[0\]"):
            read(folder, content)

    def test_two_images_of_one_id(self, folder: Path, content: dict[str, Any]) -> None:
        content["images"][1]["id"] = 0
        with pytest.raises(InputError, match="more than once"):
            read(folder, content)

    def test_missing_files(self, folder: Path, content: dict[str, Any], tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"cannot read .*none\.json"):
            read_frames(tmp_path / "none.json", folder)
        (folder / "labels.json").write_text(json.dumps(content))
        with pytest.raises(InputError, match="is not a folder"):
            read_frames(folder / "labels.json", folder / "nowhere")
        with pytest.raises(InputError, match=r"lacks 4 of 4 images that labels\.json names, such as 0\.png"):
            read_frames(folder / "labels.json", tmp_path)

    @pytest.mark.parametrize("name", ["text.png", "cut.png", "empty.png"])
    def test_unreadable_images(self, tmp_path: Path, name: str, folder: Path) -> None:
        data = {"text.png": b"not an image", "cut.png": (folder / "0.png").read_bytes()[:40], "empty.png": b""}[name]
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=rf"{name}: cannot be decoded"):
            read_image(tmp_path / name)

    def test_no_image(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no such image"):
            read_image(tmp_path / "none.png")


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("grey.png", np.full((5, 6), 77, np.uint8)),
        ("alpha.png", np.full((5, 6, 4), 77, np.uint8)),
        ("deep.png", np.full((5, 6, 3), 77 * 257, np.uint16)),
    ],
)
def test_other_kinds_of_images_become_bgr(tmp_path: Path, name: str, pixels: np.ndarray) -> None:
    cv2.imwrite(str(tmp_path / name), pixels)
    np.testing.assert_array_equal(read_image(tmp_path / name), np.full((5, 6, 3), 77, np.uint8))


def test_joints_of_another_data_set(folder: Path, content: dict[str, Any]) -> None:
    contract = Contract(
        dataset="three", keypoints=("a", "b", "c"), flip_pairs=(), skeleton=(), sigmas=(0.1, 0.1, 0.1),
        width=8, height=8, heatmap_width=2, heatmap_height=2,
    )  # fmt: skip
    frames = read(folder, content)
    assert frames.with_joints_of(contract) == frames
    for joints in (51, 10):
        other = copy.deepcopy(frames.coco)
        other["annotations"][1]["keypoints"] = [1] * joints
        with pytest.raises(InputError, match=r"annotation 11 has .* joints, the model has 3 \(three\)"):
            Frames(other, frames.load, frames.read, "user", "").with_joints_of(contract)


def whole_body(people: int = 3) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """Labels as COCO-WholeBody has them, in five fields, and all joints `(people, 133, 3)`; some parts are not seen."""
    rng = np.random.default_rng(0)
    joints = np.concatenate(
        [rng.uniform(10, 200, (people, 133, 2)), rng.integers(0, 3, (people, 133, 1)).astype(float)], axis=2
    )
    joints[0, 17:, 2], joints[1, :17, 2] = 0, 0
    annotations = [
        {
            **{"id": i + 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 200, 200], "area": 9000, "iscrowd": 0},
            **{field: one[first:last].ravel().tolist() for _, field, first, last in dataset("coco_wholebody").parts},
            "num_keypoints": int((one[:17, 2] > 0).sum()),
        }
        for i, one in enumerate(joints)
    ]
    return {"images": [{"id": 1, "file_name": "a.png"}], "annotations": annotations}, joints


def test_whole_bodies_are_put_together() -> None:
    contract = find("hrnet_w32", "coco_wholebody", None).contract()
    coco, joints = whole_body()
    frames = Frames(coco, lambda record: picture(0), lambda name: b"", "user", "").with_joints_of(contract)
    seen = [np.reshape(a["keypoints"], (133, 3)) for a in frames.coco["annotations"]]
    np.testing.assert_array_equal(seen, joints)
    assert [a["num_keypoints"] for a in frames.coco["annotations"]] == (joints[..., 2] > 0).sum(axis=1).tolist()
    assert [a["id"] for a in frames.labelled()] == [1, 2, 3]  # the second has no body, and is one by its hands
    # the gate's AP is the published evaluation's of the whole body
    rng = np.random.default_rng(1)
    moved = joints + np.concatenate([rng.normal(0, 3, (3, 133, 2)), np.zeros((3, 133, 1))], axis=2)
    moved[..., 2] = 0.5
    entries = [{"image_id": 1, "category_id": 1, "score": 0.9 - i / 10} for i in range(3)]
    whole = [{**e, "keypoints": j.ravel().tolist()} for e, j in zip(entries, moved, strict=True)]
    parted = [
        {**e, **{field: j[first:last].ravel().tolist() for _, field, first, last in dataset("coco_wholebody").parts}}
        for e, j in zip(entries, moved, strict=True)
    ]
    published = wholebody_metrics(dataset("coco_wholebody"), coco, parted)["Whole AP"]
    assert 0 < published < 1
    assert evaluate_oks(frames.coco, whole, contract.sigmas).metrics["AP"] == published


def test_a_whole_body_without_one_of_its_parts() -> None:
    contract = find("hrnet_w32", "coco_wholebody", None).contract()
    coco, _ = whole_body()
    del coco["annotations"][1]["face_kpts"]
    frames = Frames(coco, lambda record: picture(0), lambda name: b"", "user", "")
    with pytest.raises(InputError, match=r"annotation 2 has 65 joints, the model has 133 \(coco_wholebody\)"):
        frames.with_joints_of(contract)
    coco["annotations"][1]["face_kpts"] = ["no number"] * 204
    with pytest.raises(InputError, match=r"id 2\) has joints in keypoints, foot_kpts, .* that are not numbers"):
        frames.with_joints_of(contract)


def test_who_counts_as_labelled(folder: Path, content: dict[str, Any]) -> None:
    frames = read(folder, content)
    everybody = frames.labelled()
    assert everybody == sorted(everybody, key=lambda a: a["image_id"]) and len(everybody) > 1
    for change in (
        {"iscrowd": 1}, {"num_keypoints": 0}, {"bbox": [5, 5, 0, 9]}, {"bbox": [5, 5, 9, 0]}, {"image_id": 12345},
        {"keypoints": [1, 1, 0] * (len(everybody[0]["keypoints"]) // 3)},
    ):  # fmt: skip
        annotations = [{**a, **change} if a["id"] == everybody[0]["id"] else a for a in frames.coco["annotations"]]
        left = replace(frames, coco={**frames.coco, "annotations": annotations}).labelled()
        assert [a["id"] for a in left] == [a["id"] for a in everybody[1:]]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("boxes.csv", "file,x1,y1,x2,y2\n0.png,1,2,4,8\n2.png,0,0,3,3\n2.png,1,1,5,5\n"),
        ("boxes.json", '{"0.png": [[1, 2, 4, 8]], "2.png": [[0, 0, 3, 3], [1, 1, 5, 5]], "9.png": [[0, 0, 1, 1]]}'),
    ],
)
def test_a_folder_and_boxes(folder: Path, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    frames = box_frames(tmp_path / name, folder)
    assert [r["file_name"] for r in frames.coco["images"]] == ["0.png", "2.png"]
    assert [a["bbox"] for a in frames.coco["annotations"]] == [[1, 2, 3, 6], [0, 0, 3, 3], [1, 1, 4, 4]]
    owners = [
        r["file_name"] for a in frames.coco["annotations"] for r in frames.coco["images"] if r["id"] == a["image_id"]
    ]
    assert owners == ["0.png", "2.png", "2.png"]
    assert [a["box_index"] for a in frames.coco["annotations"]] == [0, 0, 1]
    assert all(a["keypoints"] == [] and a["num_keypoints"] == 0 for a in frames.coco["annotations"])
    np.testing.assert_array_equal(frames.load(frames.coco["images"][1]), picture(2))
    assert frames.read("2.png") == (folder / "2.png").read_bytes()
    assert frames.note == f"{name}, boxes of 3 people in 2 images"
    frames.with_joints_of(
        Contract("three", ("a", "b", "c"), (), (), (0.1, 0.1, 0.1), 8, 8, 2, 2)
    )  # without joints they are anybody's


def test_boxes_that_cannot_be_used(folder: Path, tmp_path: Path) -> None:
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("file,x1,y1,x2,y2\n77.png,1,2,4,8\n")
    with pytest.raises(InputError, match=r"boxes.csv: has boxes for 77.png; none for 0.png"):
        box_frames(boxes, folder)
    boxes.write_text("file,x1,y1,x2,y2\n")
    with pytest.raises(InputError, match=r"boxes.csv has no box for the \d images"):
        box_frames(boxes, folder)
    with pytest.raises(InputError, match="nowhere is not a folder"):
        box_frames(boxes, tmp_path / "nowhere")


@pytest.mark.parametrize("box", ["nan,2,4,8", "1,2,inf,8", "4,2,1,8", "1,8,4,2", "1,2,1,8"])
def test_boxes_that_a_run_refuses_are_refused(folder: Path, tmp_path: Path, box: str) -> None:
    boxes = tmp_path / "boxes.csv"
    boxes.write_text(f"file,x1,y1,x2,y2\n0.png,1,2,4,8\n2.png,1,2,4,8\n2.png,{box}\n")
    with pytest.raises(InputError, match=r"boxes.csv: 2.png: box 1 is \[.* \(1 of 2 boxes like it\): expected finite"):
        box_frames(boxes, folder)


def test_boxes_of_no_image_are_warned_of(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "boxes.json").write_text('{"0.png": [[1, 2, 4, 8]], "nosuch.png": [[1, 2, 4, 8]]}')
    with caplog.at_level(logging.WARNING):
        box_frames(tmp_path / "boxes.json", folder)
    assert "boxes.json: boxes of 1 of 2 images are not used, such as of nosuch.png; " in caplog.text
