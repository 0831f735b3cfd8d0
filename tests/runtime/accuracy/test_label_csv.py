"""Labels of DeepLabCut and Lightning Pose, in the forms of their projects' own example data."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from posert.runtime.accuracy.frames import read_frames
from posert.runtime.accuracy.label_csv import is_label_csv, read_label_csv
from posert.runtime.errors import InputError

# DeepLabCut, examples/openfield-Pranav-2018-10-30, LGPL-3.0: its first lines, and one joint left empty
OPENFIELD = """scorer,Pranav,Pranav,Pranav,Pranav,Pranav,Pranav,Pranav,Pranav
bodyparts,snout,snout,leftear,leftear,rightear,rightear,tailbase,tailbase
coords,x,y,x,y,x,y,x,y
labeled-data/m4s1/img0000.png,21.521,265.428,33.819,265.941,19.984,250.05599999999998,87.11,152.69799999999998
labeled-data/m4s1/img0001.png,10.248,288.487,,,12.298,281.313,95.821,221.361
"""
# DeepLabCut, examples/multi_mouse-dlc_team-2022-04-12: the path in three columns, several animals, and what is none
MICE = """scorer,,,dlc_team,dlc_team,dlc_team,dlc_team,dlc_team,dlc_team,dlc_team,dlc_team,dlc_team,dlc_team
individuals,,,individual1,individual1,individual1,individual1,individual2,individual2,individual2,individual2,single,single
bodyparts,,,bodypart1,bodypart1,bodypart2,bodypart2,bodypart1,bodypart1,bodypart2,bodypart2,corner1,corner1
coords,,,x,y,x,y,x,y,x,y,x,y
labeled-data,m3v1mp4short,img26.png,104.605,99.957,212.642,134.388,125.572,471.208,211.715,484.489,116.579,439.124
labeled-data,m3v1mp4short,img11.png,91.092,101.305,212.321,483.963,,,,,116.435,438.902
labeled-data,m3v1mp4short,img05.png,,,,,,,,,116.631,439.004
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "CollectedData.csv"
    path.write_text(text)
    return path


def test_one_animal(tmp_path: Path) -> None:
    path = written(tmp_path, OPENFIELD)
    assert is_label_csv(path)
    coco = read_label_csv(path, tmp_path)
    assert [image["file_name"] for image in coco["images"]] == ["img0000.png", "img0001.png"]
    assert coco["categories"][0]["keypoints"] == ["snout", "leftear", "rightear", "tailbase"]
    first, second = coco["annotations"]
    assert first["keypoints"][:3] == [21.521, 265.428, 2] and first["num_keypoints"] == 4
    assert second["keypoints"][3:6] == [0, 0, 0] and second["num_keypoints"] == 3
    width, height = 87.11 - 19.984, 265.941 - 152.698
    box = [19.984 - 0.05 * width, 152.698 - 0.05 * height, 1.1 * width, 1.1 * height]
    np.testing.assert_allclose(first["bbox"], box, rtol=1e-6)


def test_several_animals(tmp_path: Path) -> None:
    coco = read_label_csv(written(tmp_path, MICE), tmp_path)
    assert coco["categories"][0]["keypoints"] == ["bodypart1", "bodypart2"]
    assert [a["image_id"] for a in coco["annotations"]] == [1, 1, 2]
    assert coco["annotations"][1]["keypoints"] == [125.572, 471.208, 2, 211.715, 484.489, 2]
    (tmp_path / "labeled-data" / "m3v1mp4short").mkdir(parents=True)
    (tmp_path / "labeled-data" / "m3v1mp4short" / "img11.png").write_bytes(b"")
    names = [image["file_name"] for image in read_label_csv(tmp_path / "CollectedData.csv", tmp_path)["images"]]
    assert names == ["img26.png", "labeled-data/m3v1mp4short/img11.png", "img05.png"]


def test_as_frames(tmp_path: Path) -> None:
    for name in ("img0000.png", "img0001.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((400, 300, 3), np.uint8))
    frames = read_frames(written(tmp_path, OPENFIELD), tmp_path)
    assert len(frames.labelled()) == 2
    assert frames.note.endswith("2 of 2 images, annotated boxes; OKS with 0.53 of their area")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (OPENFIELD.replace("bodyparts,", "parts,"), "its first rows are scorer, coords; expected scorer, bodyparts"),
        (OPENFIELD.replace("coords,x,y", "coords,x,likelihood"), "holds predictions"),
        (
            OPENFIELD.replace("coords,x,y,x,y,x,y,x,y", "coords,a,b,a,b,a,b,a,b"),
            "no columns x, y .*: its coords are a, b",
        ),
        (OPENFIELD.replace("21.521", "left"), "line 4 has .'left', '265.428'. where x and y of a joint were expected"),
        (OPENFIELD.replace("img0001.png,10.248,", "img0001.png,"), "line 5 has 8 columns, expected 9"),
        (OPENFIELD.split("labeled")[0], "labels no joint in 0 images"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_label_csv(written(tmp_path, text), tmp_path)


def test_other_tables_are_no_labels(tmp_path: Path) -> None:
    assert not is_label_csv(written(tmp_path, "file,x1,y1,x2,y2\na.png,1,2,3,4\n"))
    assert not is_label_csv(tmp_path / "none.csv")


def test_names_and_numbers_that_no_image_has(tmp_path: Path) -> None:
    long = OPENFIELD.replace("labeled-data/m4s1/img0000.png", "9" * 400)
    assert read_label_csv(written(tmp_path, long), tmp_path)["images"][0]["file_name"] == "9" * 400
    with pytest.raises(InputError, match=r"line 4 has \['1e999', '265.428'\]"):
        read_label_csv(written(tmp_path, OPENFIELD.replace("21.521", "1e999")), tmp_path)
