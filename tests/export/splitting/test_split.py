"""`posert split`: what is on which side, on photographs and on videos made by hand."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from posert.calib.looks import image_facts
from posert.calib.overlap import EvaluationImages, Overlap
from posert.export.splitting import Group, assign
from posert.runtime.accuracy.frames import read_frames
from posert.runtime.cli.main import main
from posert.runtime.errors import InputError

MOUSE = Path(__file__).parents[2] / "goldens" / "mirror_mouse"
SIDES = ("train", "calib", "test")
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def split(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str | Path) -> tuple[int, str]:
        status = main(["split", *map(str, arguments)])
        said = capsys.readouterr()
        return status, said.out + said.err

    return run


def save(folder: Path, names: Sequence[str], seeds: Sequence[int], records: Sequence[dict[str, Any]] = ()) -> Path:
    """Images, each of one animal with noise of its seed as its fur, and their labels as a COCO file."""
    images, annotations = [], []
    for i, (name, seed) in enumerate(zip(names, seeds, strict=True)):
        fur = np.random.default_rng(seed).integers(0, 256, (10, 12, 3)).astype(np.uint8)
        image = np.full((60, 80, 3), 90, np.uint8)
        image[10:50, 20:68] = cv2.resize(fur, (48, 40), interpolation=cv2.INTER_CUBIC)
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
        images.append({"id": i, "file_name": name, **(records[i] if records else {})})
        annotations.append(
            {"id": i, "image_id": i, "bbox": [20, 10, 48, 40], "keypoints": [30, 20, 2, 40 + i % 5, 30, 2]}
        )
    content = {"info": {"year": 2024}, "images": images, "annotations": annotations}
    content["categories"] = [{"id": 1, "name": "rat", "keypoints": ["nose", "tail"]}]
    (folder / "labels.json").write_text(json.dumps(content))
    return folder / "labels.json"


def sides_of(folder: Path) -> dict[str, str]:
    return {
        record["file_name"]: side
        for side in SIDES
        for record in json.loads((folder / f"{side}.json").read_text())["images"]
    }


def test_photographs(tmp_path: Path, split: Run) -> None:
    status, said = split(MOUSE / "test.json", "--images", MOUSE / "images", "--output", tmp_path / "out")
    assert status == 0 and "neither records nor names tell of a video" in said
    whole = json.loads((MOUSE / "test.json").read_text())
    parts = {side: json.loads((tmp_path / "out" / f"{side}.json").read_text()) for side in SIDES}
    assert [len(parts[side]["images"]) for side in SIDES] == [12, 4, 4]
    for kind in ("images", "annotations"):
        together = [record for side in SIDES for record in parts[side][kind]]
        assert sorted(together, key=lambda r: r["id"]) == sorted(whole[kind], key=lambda r: r["id"])
    assert all(part["categories"] == whole["categories"] for part in parts.values())
    # what is split passes the build's own test
    held_out, own = (read_frames(tmp_path / "out" / f"{side}.json", MOUSE / "images") for side in ("test", "calib"))
    facts = image_facts(held_out.coco)
    evaluation = EvaluationImages(facts, held_out.read, facts)
    own_facts = image_facts(own.coco)
    assert evaluation.overlap(own_facts, own.read, own_facts) == Overlap({}, {})


VIDEOS: dict[str, tuple[list[str], list[dict[str, Any]]]] = {
    "folders": ([f"labeled-data/v{i // 4}/img{i:04}.png" for i in range(24)], []),
    "names": ([f"v{i // 4}_frame_{i:04}.png" for i in range(24)], []),
    "records": ([f"{i}.png" for i in range(24)], [{"video_id": i // 4, "frame_id": i} for i in range(24)]),
    "cameras": ([f"{i}.png" for i in range(24)], [{"camera": f"c{i // 4}"} for i in range(24)]),
}


@pytest.mark.parametrize("kind", VIDEOS)
def test_a_video_or_a_camera_is_on_one_side(tmp_path: Path, split: Run, kind: str) -> None:
    names, records = VIDEOS[kind]
    labels = save(tmp_path, names, range(24), records)
    status, said = split(labels, "--images", tmp_path / "images", "--output", tmp_path / "out")
    assert status == 0, said
    sides = sides_of(tmp_path / "out")
    assert set(sides) == set(names)
    assert all(len({sides[name] for name in names[i : i + 4]}) == 1 for i in range(0, 24, 4))
    assert sorted(list(sides.values()).count(side) for side in SIDES) == [4, 4, 16]
    assert "24 images with labels in 6 groups" in said and "4 images: " in said
    told = json.loads((tmp_path / "out" / "split.json").read_text())
    assert len(told["groups"]) == 6 and all(len(group["images"]) == 4 and group["why"] for group in told["groups"])


def test_lookalikes_and_the_same_file_are_on_one_side(tmp_path: Path, split: Run) -> None:
    names = [f"{i:02}.png" for i in range(16)]
    labels = save(tmp_path, names, [*range(14), 3, 5])
    path = tmp_path / "images" / "14.png"
    cv2.imwrite(str(path), (cv2.imread(str(path)) * 0.8).astype(np.uint8))  # darker; 15 is 05, byte for byte
    status, said = split(labels, "--images", tmp_path / "images", "--output", tmp_path / "out")
    assert status == 0 and "03.png and 14.png look alike" in said and "05.png and 15.png are the same file" in said
    sides = sides_of(tmp_path / "out")
    assert sides["03.png"] == sides["14.png"] and sides["05.png"] == sides["15.png"]


def test_the_same_images_are_split_in_the_same_way(tmp_path: Path, split: Run) -> None:
    labels = save(tmp_path, [f"{i}.png" for i in range(20)], range(20))
    for name in ("a", "b"):
        split(labels, "--images", tmp_path / "images", "--output", tmp_path / name)
    for file in ("train.json", "calib.json", "test.json", "split.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_label_csvs(tmp_path: Path, split: Run) -> None:
    save(tmp_path, [f"labeled-data/v{i // 3}/img{i:02}.png" for i in range(12)], range(12))
    head = [
        ["scorer", "", "", "me", "me", "me", "me"],
        ["bodyparts", "", "", "nose", "nose", "tail", "tail"],
        ["coords", "", "", "x", "y", "x", "y"],
    ]
    wide = [["labeled-data", f"v{i // 3}", f"img{i:02}.png", "30.5", f"{20 + i}", "50", "40"] for i in range(12)]
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([*head, *wide])
    status, said = split(tmp_path / "labels.csv", "--images", tmp_path / "images", "--output", tmp_path / "out")
    assert status == 0, said
    read = {side: list(csv.reader((tmp_path / "out" / f"{side}.csv").open(newline=""))) for side in SIDES}
    assert all(rows[:3] == head for rows in read.values())
    assert sorted(row for rows in read.values() for row in rows[3:]) == wide
    for rows in read.values():
        assert all(sum(row[1] == one[1] for row in rows[3:]) == 3 for one in rows[3:])
    assert len(read_frames(tmp_path / "out" / "test.csv", tmp_path / "images").coco["images"]) == 3


def test_what_cannot_be_split_is_refused_and_nothing_is_written(tmp_path: Path, split: Run) -> None:
    labels = save(tmp_path, ["a.png", "b.png"], [0, 1])
    arguments = (labels, "--images", tmp_path / "images", "--output", tmp_path / "out")
    status, said = split(*arguments)
    assert status == 2 and "the 2 images form 2 groups, and train, calib, test need one each" in said
    status, said = split(*arguments, "--test-share", "0.9")
    assert status == 2 and "expected shares that leave some to train on" in said
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "train.json").write_text("mine")
    status, said = split(*arguments)
    assert status == 2 and "exists: remove it" in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images", "labels.json", "out"]
    assert (tmp_path / "out" / "train.json").read_text() == "mine"


def test_two_videos_are_not_kept_apart_and_it_is_said(tmp_path: Path, split: Run) -> None:
    labels = save(tmp_path, [f"v{i // 8}/{i:02}.png" for i in range(16)], range(16))
    status, said = split(labels, "--images", tmp_path / "images", "--output", tmp_path / "out")
    assert status == 0 and "all images are of 2 videos (v0, v1)" in said
    assert len(set(sides_of(tmp_path / "out").values())) == 3


def test_shares_are_kept_as_near_as_groups_allow() -> None:
    groups = [Group((str(i),), ()) for i in range(100)]
    shares = {"train": 0.7, "calib": 0.1, "test": 0.2}
    sides = assign(groups, shares)
    assert {side: len(found) for side, found in sides.items()} == {"train": 70, "calib": 10, "test": 20}
    large = [Group(tuple(map(str, range(90))), ("video v",)), Group(("a",), ()), Group(("b",), ())]
    assert {side: found[0].names[0] for side, found in assign(large, shares).items()}["train"] == "0"
    with pytest.raises(InputError, match=r"form 1 group, .*the largest has 90 images \(video v\)"):
        assign(large[:1], shares)
