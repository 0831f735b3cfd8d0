"""Boxes from files: every format says the same, and a file that does not fit says why."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest

from posert.runtime.errors import InputError
from posert.runtime.media.box_file import BoxFile
from posert.runtime.pose.preprocess import check_boxes

# Two people on one image, none on another.
BOXES = [[10.0, 20.0, 60.0, 120.0], [5.5, 0.0, 25.5, 80.0]]
BODIES = [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in BOXES]
ANNOTATIONS = {
    "images": [{"id": 139, "file_name": "val/000000000139.jpg"}, {"id": 7, "file_name": "val/000000000007.jpg"}],
    "annotations": [{"image_id": 139, "bbox": body, "category_id": 1, "iscrowd": 0} for body in BODIES],
}
DETECTIONS = [{"image_id": 139, "bbox": body, "category_id": 1, "score": 0.9} for body in BODIES]
CSV = "file,x1,y1,x2,y2\n" + "".join(f"000000000139.jpg,{','.join(map(str, box))}\n" for box in BOXES)


def write(folder: Path, content: object, name: str = "boxes.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (ANNOTATIONS, "a.json"),
        (DETECTIONS, "a.json"),
        ({"000000000139.jpg": BOXES}, "a.json"),
        ({"000000000139": BOXES}, "a.json"),
        ({"some/folder/000000000139.jpg": BOXES}, "a.json"),
        (CSV, "a.csv"),
        ("\ufeff" + CSV.replace(",", ", "), "a.CSV"),
    ],
)
def test_every_format_gives_the_same_boxes(tmp_path: Path, content: object, name: str) -> None:
    boxes = BoxFile(write(tmp_path, content, name))
    found = boxes.of("000000000139.jpg")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array(BOXES, np.float32))
    assert boxes.of("000000000007.jpg").shape == (0, 4)
    boxes.check(["000000000139.jpg", "000000000007.jpg"])


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ({"0": BOXES, "12": []}, "a.json"),
        ([{"image_id": 0, "bbox": body} for body in BODIES], "a.json"),
        (CSV.replace("file,", "frame,").replace("000000000139.jpg", "0"), "a.csv"),
    ],
)
def test_frames_of_a_video_go_by_number(tmp_path: Path, content: object, name: str) -> None:
    boxes = BoxFile(write(tmp_path, content, name))
    boxes.check([])
    np.testing.assert_array_equal(boxes.of(0), np.array(BOXES, np.float32))
    assert boxes.of(1).shape == (0, 4)


def test_only_people_and_no_crowds_are_taken(tmp_path: Path) -> None:
    records = [
        {"image_id": 1, "bbox": [0, 0, 1, 1], "category_id": 1},
        {"image_id": 1, "bbox": [0, 0, 2, 2], "category_id": 3},
        {"image_id": 1, "bbox": [0, 0, 3, 3], "category_id": 1, "iscrowd": 1},
    ]
    assert BoxFile(write(tmp_path, records)).of("1.png").tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize("kind", ["detections", "csv"])
def test_detections_below_the_score_are_left_out(tmp_path: Path, kind: str) -> None:
    if kind == "csv":
        path = write(tmp_path, "file,x1,y1,x2,y2,score\na.jpg,0,0,1,1,0.8\na.jpg,0,0,2,2,0.2\n", "a.csv")
    else:
        records = [{"image_id": "a", "bbox": [0, 0, n, n], "score": s} for n, s in ((1, 0.8), (2, 0.2))]
        path = write(tmp_path, records)
    assert BoxFile(path, min_score=0.5).of("a.jpg").tolist() == [[0, 0, 1, 1]]
    assert len(BoxFile(path).of("a.jpg")) == 2


def test_without_a_bound_no_score_is_too_low(tmp_path: Path) -> None:
    records = [{"image_id": "a", "bbox": [0, 0, 1, 1], "score": -2.5}]  # a logit
    assert len(BoxFile(write(tmp_path, records)).of("a.jpg")) == 1


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("{", "a.json", "not JSON"),
        ("7", "a.json", "not a list of boxes"),
        ({"a.jpg": [[1, 2, 3]]}, "a.json", "not a box of four numbers"),
        ({"a.jpg": [1, 2, 3, 4]}, "a.json", "not a box of four numbers"),
        ({"a.jpg": 5}, "a.json", "not a list of boxes"),
        ([{"bbox": [1, 2, 3, 4]}], "a.json", "image_id"),
        ([[1, 2, 3, 4]], "a.json", "not a list of boxes"),
        ({"annotations": [{"image_id": 1, "bbox": "x"}], "images": []}, "a.json", "not a box"),
        ({"annotations": []}, "a.json", "images"),
        ("x1,y1,x2,y2\n1,2,3,4\n", "a.csv", "the header is"),
        ("file,x1,y1,x2,y2\na.jpg,1,2,three,4\n", "a.csv", "line 2"),
        ("file,x1,y1,x2,y2\na.jpg,1,2\n", "a.csv", "line 2"),
        ("x1,y1,x2,y2,file\n1,2,3,4\n", "a.csv", "line 2 has no file"),
        ("frame,x1,y1,x2,y2\n,1,2,3,4\n", "a.csv", "line 2 has no frame"),
        ({"x/a.jpg": [], "y/a.jpg": []}, "a.json", "one folder at a time"),
        # what was lost or invented without a word
        ([{"image_id": 1, "bbox": [1, 2, 3, 4], "score": float("nan")}], "a.json", "has nan in 'score'"),
        ([{"image_id": 1, "bbox": [1, 2, 3, 4], "score": True}], "a.json", "has True in 'score'"),
        ([{"image_id": 1, "bbox": [1, 2, 3, 4], "category_id": "1"}], "a.json", "has '1' in 'category_id'"),
        ([{"image_id": 1, "bbox": [1, 2, 3, 4], "iscrowd": "0"}], "a.json", "has '0' in 'iscrowd', expected 0 or 1"),
        ([{"image_id": [1], "bbox": [1, 2, 3, 4]}], "a.json", r"has \[1\] in 'image_id'"),
        ([{"image_id": {}, "bbox": [1, 2, 3, 4]}], "a.json", "has {} in 'image_id'"),
        ([{"image_id": True, "bbox": [1, 2, 3, 4]}], "a.json", "has True in 'image_id'"),
        ([{"image_id": 1, "bbox": [1, 2, 3, 4, 5]}], "a.json", "expected four numbers"),
        ([{"image_id": 1, "bbox": {"1": 0, "2": 0, "3": 9, "9": 9}}], "a.json", "not a box"),
        ({"annotations": [], "images": [{"id": 1, "file_name": ["a"]}]}, "a.json", "expected a path"),
        ({"annotations": [], "images": [{"id": 1, "file_name": n} for n in "ab"]}, "a.json", "the id 1 occurs more"),
        ({"annotations": [], "images": [], "categories": 5}, "a.json", "categories must be a list"),
        ('{"a.jpg": [[1, 2, 3, 4]], "a.jpg": []}', "a.json", "the key 'a.jpg' twice"),
        ({"a.jpg": ["1239"]}, "a.json", "not a box of four numbers"),
        ({"a.jpg": "1239"}, "a.json", "expected a list of boxes"),
        ({"a.jpg": [{"1": 0, "2": 0, "3": 9, "9": 9}]}, "a.json", "not a box of four numbers"),
        ({"a.jpg": [[False, 0, True, 1]]}, "a.json", "not a box of four numbers"),
        ({"a.jpg": [["1", "2", "3", "4"]]}, "a.json", "not a box of four numbers"),
        ({"a.jpg": [[0, 0, 9, 5, float("inf")]]}, "a.json", "not a box of four numbers"),
        ({"a.jpg": [[0, 0, 10**400, 5]]}, "a.json", "a number in line 1 has 300 digits"),
        ("[" * 100_000, "a.json", "nested 100000 levels deep"),
        ({"": [[1, 2, 3, 4]]}, "a.json", "is no name of an image"),
        ("file,x1,y1,x2,y2,score\na.jpg,1,2,3,4,nan\n", "a.csv", "line 2"),
        ("file,x1,y1,x2,y2,score\na.jpg,1,2,3,4,\n", "a.csv", "line 2"),
        ("file,x1,y1,x2,y2\na.jpg,1,2,3_0,40\n", "a.csv", "line 2"),
        ("file,x1,y1,x2,y2\na.jpg,1,2,\x1d30,40\n", "a.csv", "line 2"),  # white to str.strip, and not to float
        ("file,x1,y1,x2,y2\na.jpg,1,2,3,4,5\n", "a.csv", "line 2 has more columns"),
        ("file,x1,y1,x2,y2,x1\na.jpg,1,2,3,4,5\n", "a.csv", "has a column twice"),
        ("file,x1,y1,x2,y2\n" + "a" * 200_000 + ",1,2,3,4\n", "a.csv", "line 2 is not CSV .* field larger"),
        ('file,x1,y1,x2,y2\n"a.jpg"x,1,2,3,4\n', "a.csv", "line 2 is not CSV"),
        ("x" * 200_000, "a.csv", "line 1 is not CSV"),
    ],
)
def test_a_file_that_is_no_list_of_boxes_is_refused(tmp_path: Path, content: object, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        BoxFile(write(tmp_path, content, name))


def test_long_keys_are_names_as_others_are(tmp_path: Path) -> None:
    """Python refuses to make a number of 5000 digits."""
    boxes = BoxFile(write(tmp_path, {"9" * 5000: BOXES, "0": BOXES}))
    boxes.check([])
    assert len(boxes.of("9" * 5000)) == len(boxes.of("7" * 9000 + "0.png")) + 2 == 2


@pytest.mark.filterwarnings("error")
def test_a_box_that_is_nowhere_is_kept_for_its_image_to_fail(tmp_path: Path) -> None:
    for path in (
        write(tmp_path, {"a.jpg": [[0, 0, 1e300, 5]], "b.jpg": BOXES}),
        write(tmp_path, "file,x1,y1,x2,y2\na.jpg,0,0,1e300,5\nb.jpg,0,0,9,NaN\n", "a.csv"),
    ):
        with pytest.raises(InputError, match="box 0 is"):
            check_boxes(BoxFile(path).of("a.jpg"))


def test_a_name_in_csv_may_hold_any_character(tmp_path: Path) -> None:
    path = tmp_path / "boxes.csv"
    path.write_text('file,x1,y1,x2,y2\n"a,\x0b\u2028b.jpg",1,2,3,4\n', encoding="utf-8")
    assert BoxFile(path).of("a,\x0b\u2028b.jpg").tolist() == [[1, 2, 3, 4]]


def test_a_bound_that_is_no_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="below nan"):
        BoxFile(write(tmp_path, DETECTIONS), min_score=float("nan"))


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the boxes"):
        BoxFile(tmp_path / "none.json")
    (tmp_path / "image.json").write_bytes(b"\xff\xd8\xff\xe0" * 9)
    with pytest.raises(InputError, match="cannot read the boxes"):
        BoxFile(tmp_path / "image.json")


def test_boxes_for_other_images_are_refused(tmp_path: Path) -> None:
    boxes = BoxFile(write(tmp_path, ANNOTATIONS))
    with pytest.raises(InputError, match="has boxes for 000000000139.jpg"):
        boxes.check(["else.jpg"])
    with pytest.raises(InputError, match="by number"):
        boxes.check([])
    with pytest.raises(InputError, match="has boxes for 007; frames of a video go by number: 0, 1"):
        BoxFile(write(tmp_path, {"007": BOXES})).check([])  # nothing asks for this name


@pytest.mark.parametrize(
    ("content", "images", "said"),
    [
        (
            {"nosuch.png": BOXES, "000000.png": BOXES},
            [f"{i:06d}.png" for i in range(4)],
            "boxes of 1 of 2 images are not used, such as of nosuch.png; 3 of 4 images have no boxes",
        ),
        (
            {"a.png": BOXES, "b.png": BOXES, "c.png": BOXES},
            ["c.png", "d.png"],
            "boxes of 2 of 3 images are not used, such as of a.png; 1 of 2 images have no boxes",
        ),
        ({"a.png": BOXES, "b.png": BOXES, "c": BOXES}, ["a.png", "b.png"], "boxes of 1 of 3 images are not used"),
        # the second name is not looked at where the first is there
        ({"1.png": BOXES, "1": BOXES, "2": BOXES}, ["1.png", "2.png"], "boxes of 1 of 3 images .* such as of 1$"),
        ({"a.png": BOXES}, ["a.png", "b.png", "c.png"], "2 of 3 images have no boxes"),
        ({}, ["a.png"], "1 of 1 images have no boxes"),
        (
            {"0": BOXES, "a.png": BOXES, "7": []},
            [],
            "boxes of 1 of 2 frames are not used, .*a.png: .*by number",
        ),
    ],
)
def test_what_belongs_to_nothing_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: object, images: list[str], said: str
) -> None:
    path = write(tmp_path, content)
    with caplog.at_level(logging.WARNING):
        BoxFile(path).check(images)
    (record,) = caplog.records
    assert re.match(rf"{re.escape(str(path))}: {said}", record.getMessage())


@pytest.mark.parametrize(
    ("content", "images"),
    [
        ({"a.png": BOXES, "b.png": []}, ["a.png", "b.png"]),  # nobody on b.png
        ({"a.png": BOXES, "b.png": []}, ["a.png"]),
        ({"a.png": BOXES, "b.png": BOXES}, ["a.png"]),  # one image of the folder that the boxes are of
        (ANNOTATIONS, ["000000000139.jpg", "000000000007.jpg"]),
        ({"0": BOXES, "12": BOXES}, []),
    ],
)
def test_nothing_amiss_nothing_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: object, images: list[str]
) -> None:
    with caplog.at_level(logging.WARNING):
        BoxFile(write(tmp_path, content)).check(images)
    assert not caplog.records
