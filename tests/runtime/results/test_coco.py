"""COCO results: read and scored by pycocotools, and by `posert evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posert.runtime.cli.main import main
from posert.runtime.pose.keypoints import Keypoints
from posert.runtime.results import FrameResult
from posert.runtime.results.coco import image_ids


def labels(frames: list[FrameResult], ids: list[Any]) -> dict[str, Any]:
    """Annotations with the joints of these frames as the truth."""
    images = [{"id": i, "file_name": str(f.key), "width": 640, "height": 480} for f, i in zip(frames, ids, strict=True)]
    people = []
    for frame, image in zip(frames, ids, strict=True):
        for xy in [] if frame.people is None else frame.people.xy:
            low, size = xy.min(0), np.ptp(xy, axis=0)
            joints = np.column_stack([xy, np.full(len(xy), 2)]).astype(float).round(4)
            people.append(
                {"id": len(people) + 1, "image_id": image, "category_id": 1, "iscrowd": 0, "num_keypoints": len(xy)}
                | {"area": float(size.prod()), "bbox": [*low.tolist(), *size.tolist()]}
                | {"keypoints": joints.ravel().tolist()}
            )
    return {"images": images, "annotations": people, "categories": [{"id": 1, "name": "person"}]}


@pytest.mark.parametrize("kind", ["VIDEO", "IMAGES"])
def test_pycocotools_reads_and_scores_them(kind: str, tmp_path: Path, make: Any, capsys: Any) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    frames = make.write("coco", tmp_path / "a.coco.json", getattr(make, kind))
    ids = [7, 8, 9, 10, 12] if kind == "IMAGES" else list(range(5))
    (tmp_path / "labels.json").write_text(json.dumps(labels(frames, ids)))
    truth = COCO(str(tmp_path / "labels.json"))
    found = truth.loadRes(str(tmp_path / "a.coco.json"))
    assert len(found.anns) == 6 and {a["image_id"] for a in found.anns.values()} == {ids[0], ids[2], ids[4]}
    scored = COCOeval(truth, found, "keypoints")
    scored.evaluate()
    scored.accumulate()
    scored.summarize()
    assert scored.stats[0] == pytest.approx(1)
    capsys.readouterr()
    evaluate = ["evaluate", "--dataset", "coco", "--annotations", str(tmp_path / "labels.json"), "--json"]
    assert main([*evaluate, "--results", str(tmp_path / "a.coco.json")]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["AP"] == pytest.approx(1)


def test_whole_bodies_go_into_the_fields_of_their_parts(tmp_path: Path, make: Any) -> None:
    subject = type(make.VIDEO)("v.mp4", make.contract("coco_wholebody"))
    make.write("coco", tmp_path / "a.coco.json", subject)
    record = json.loads((tmp_path / "a.coco.json").read_text())[0]
    lengths = {k: len(v) for k, v in record.items() if isinstance(v, list)}
    assert lengths == {"keypoints": 51, "foot_kpts": 18, "face_kpts": 204, "lefthand_kpts": 63, "righthand_kpts": 63}


def test_other_joints_of_a_known_data_set_go_into_one_field(tmp_path: Path, make: Any) -> None:
    own = make.contract("coco_wholebody", keypoints=("a", "b"), flip_pairs=(), skeleton=(), sigmas=())
    make.write("coco", tmp_path / "a.coco.json", type(make.VIDEO)("v.mp4", own))
    assert len(json.loads((tmp_path / "a.coco.json").read_text())[0]["keypoints"]) == 6


def test_an_image_has_the_id_that_its_name_ends_in(tmp_path: Path, make: Any) -> None:
    assert image_ids(["COCO_val2014_000000000139.jpg", "7.png"]) == {"COCO_val2014_000000000139.jpg": 139, "7.png": 7}
    for names in (["a.png", "1.png"], ["a_1.png", "b_1.png"], ["1.jpg", "001.png"], []):
        assert image_ids(names) == {}
    subject = type(make.VIDEO)("x", make.contract(), keys=("a_1.png", "b_1.png"))
    make.write("coco", tmp_path / "a.coco.json", subject, make.results(subject, (1, 1)))
    assert [r["image_id"] for r in json.loads((tmp_path / "a.coco.json").read_text())] == ["a_1.png", "b_1.png"]


def test_an_empty_list_is_a_list(tmp_path: Path, make: Any) -> None:
    make.write("coco", tmp_path / "a.coco.json", make.VIDEO, make.results(make.VIDEO, (0,)))
    assert json.loads((tmp_path / "a.coco.json").read_text()) == []


def test_a_detection_score_counts(make: Any) -> None:
    people: Keypoints = make.people(1, ("a", "b"), detected=False)
    half = Keypoints(people.xy, people.score, people.boxes, people.names, None, np.array([0.5], np.float32))
    assert half.to_coco(1)[0]["score"] == pytest.approx(people.to_coco(1)[0]["score"] / 2)
