"""A results file scored by the name of its data set."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from posert.runtime.accuracy.frames import read_frames
from posert.runtime.accuracy.people import annotated_people
from posert.runtime.accuracy.score import read_annotations, score_file
from posert.runtime.bundle.contract import Contract
from posert.runtime.cli.main import main
from posert.runtime.datasets import dataset
from posert.runtime.errors import CatalogError, InputError

Golden = Callable[[str], Any]
NAMES = {
    "coco": ["AP", "AP50", "AP75", "AP (M)", "AP (L)", "AR", "AR50", "AR75", "AR (M)", "AR (L)"],
    "aic": ["AP", "AP50", "AP75", "AP (M)", "AP (L)", "AR", "AR50", "AR75", "AR (M)", "AR (L)"],
    "crowdpose": ["AP", "AP50", "AP75", "AR", "AR50", "AR75", "AP (E)", "AP (M)", "AP (H)"],
}


def write(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def files(golden: Golden, folder: Path, name: str) -> tuple[Path, Path]:
    file = golden(f"e_{name}.json.gz")
    return write(folder, "annotations.json", file["gt"]), write(folder, "results.json", file["dets"])


@pytest.mark.parametrize(
    ("name", "protocol", "key"),
    [
        ("coco", "legacy", "coco_pycocotools"),
        ("coco", "v029", "coco_xtcocotools"),
        ("aic", "legacy", "aic_v06_to_v010_sigmas_x2"),
        ("aic", "v029", "aic_v011_to_v029"),
        ("crowdpose", "legacy", "crowdpose"),
        ("crowdpose", "v029", "crowdpose"),
    ],
)
def test_oks(golden: Golden, tmp_path: Path, name: str, protocol: str, key: str) -> None:
    seen = score_file(name, *files(golden, tmp_path, name), protocol)
    assert seen == {
        "dataset": name,
        "protocol": protocol,
        "metrics": dict(zip(NAMES[name], golden("e_eval.json")[key], strict=True)),
    }
    json.dumps(seen)


def test_wholebody(golden: Golden, tmp_path: Path) -> None:
    seen = score_file("coco_wholebody", *files(golden, tmp_path, "wholebody"), "legacy")["metrics"]
    expected = golden("e_eval.json")["wholebody_whole"]
    assert (seen["Whole AP"], seen["Whole AR"]) == (expected[0], expected[5])


def test_left_out_detections_are_reported(golden: Golden, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        score_file("coco", *files(golden, tmp_path, "coco"), "v029")
    assert "1 of 257 results have no joint with a positive score" in caplog.text


def test_some_results_without_part_scores_are_warned_of(
    golden: Golden, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = golden("e_wholebody.json.gz")
    results = [{**found, "foot_score": 0.5} if i else found for i, found in enumerate(file["dets"])]
    annotations = write(tmp_path, "gt.json", file["gt"])
    with caplog.at_level(logging.WARNING):
        score_file("coco_wholebody", annotations, write(tmp_path, "r.json", results))
    (said,) = (r.getMessage() for r in caplog.records if "_score" in r.getMessage())
    assert said == f"1 of {len(results)} results have no foot_score: `score` ranks them"


class TestWhatLowersAFigureIsSaid:
    @pytest.fixture
    def said(
        self, golden: Golden, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> Callable[[Callable[[list[Any]], list[Any]]], list[str]]:
        """said(change) -> the warnings about COCO's results after a change."""
        annotations, results = files(golden, tmp_path, "coco")
        # Nobody is to be found on two more images, and so nobody is missed there.
        truth = json.loads(annotations.read_text())
        one = next(a for a in truth["annotations"] if a["num_keypoints"] and not a["iscrowd"])
        truth["images"] += [{**truth["images"][0], "id": n} for n in (90001, 90002)]
        truth["annotations"] += [
            {**one, "id": 90001, "image_id": 90001, "iscrowd": 1},
            {**one, "id": 90002, "image_id": 90002, "num_keypoints": 0, "keypoints": [0] * 51},
        ]
        write(tmp_path, "annotations.json", truth)

        def warnings(change: Callable[[list[Any]], list[Any]]) -> list[str]:
            caplog.clear()
            write(tmp_path, "changed.json", change(json.loads(results.read_text())))
            with caplog.at_level(logging.WARNING):
                score_file("coco", annotations, tmp_path / "changed.json")
            return [record.getMessage() for record in caplog.records]

        return warnings

    def test_whole_results(self, said: Callable[..., list[str]]) -> None:
        assert not [text for text in said(lambda found: found) if "repeat" in text or "empty" in text]

    def test_an_image_without_results(self, golden: Golden, said: Callable[..., list[str]]) -> None:
        truth = golden("e_coco.json.gz")["gt"]["annotations"]
        annotated = {a["image_id"] for a in truth if a["num_keypoints"] and not a["iscrowd"]}
        every = [
            {"image_id": i, "category_id": 1, "keypoints": [1.0] * 51, "score": 0.5, "id": n}
            for n, i in enumerate(annotated)
        ]
        assert said(lambda _: every) == []
        (text,) = said(lambda _: every[1:])
        assert text == f"1 of {len(annotated)} annotated images have no result, such as {every[0]['image_id']}"

    def test_no_results(self, said: Callable[..., list[str]]) -> None:
        assert said(lambda _: []) == ["the list of results is empty"]

    def test_results_that_are_there_twice(self, said: Callable[..., list[str]]) -> None:
        twice = said(lambda found: found + [{**r, "id": i} for i, r in enumerate(found)])
        assert "257 of 514 results repeat another one exactly" in twice
        moved = said(lambda found: found + [{**r, "keypoints": [v + 1 for v in r["keypoints"]]} for r in found])
        assert not [text for text in moved if "repeat" in text], "equal scores alone repeat nothing"


def test_posetrack18_without_a_frame_is_said(golden: Golden, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = golden("g_posetrack.json.gz")
    truth = write(tmp_path, "gt.json", file["gt"])
    found = [entry for part in file["gt"] for entry in file["written_predictions"][part["file"]]]
    lost = next(entry["image_id"] for entry in found)
    results = write(tmp_path, "pred.json", [e for e in found if e["image_id"] != lost] + found[-1:])
    with caplog.at_level(logging.WARNING):
        score_file("posetrack18", truth, results)
    assert "annotated images have no result, such as" in caplog.text
    assert "results repeat another one exactly" in caplog.text


@pytest.mark.parametrize("truth", ["mat", "npz", "json"])
@pytest.mark.parametrize("predictions", ["mat", "npz", "json"])
def test_mpii(golden: Golden, tmp_path: Path, truth: str, predictions: str) -> None:
    g, expected = golden("f_mpii.npz"), golden("f_mpii.json")["mmpose_v010"]
    arrays = {name: g[name] for name in ("pos_gt_src", "jnt_missing", "headboxes_src")}
    preds = {"preds": g["pred0"] + np.float32(1)}  # 1-based, as MMPose and the HRNet repository write them
    annotations, results = tmp_path / f"gt.{truth}", tmp_path / f"pred.{predictions}"
    for path, content in ((annotations, arrays), (results, preds)):
        if path.suffix == ".mat":
            savemat(path, content)
        elif path.suffix == ".npz":
            np.savez(path, **content)
    if truth == "json":
        write(tmp_path, annotations.name, {name: array.tolist() for name, array in arrays.items()})
    if predictions == "json":
        joints = np.concatenate([g["pred0"], np.ones((120, 16, 1), np.float32)], axis=2).reshape(120, -1)
        write(tmp_path, results.name, [{"image_id": i, "keypoints": j.tolist()} for i, j in enumerate(joints)])
    seen = score_file("mpii", annotations, results, "legacy")["metrics"]
    assert list(seen)[-2:] == ["Mean", "Mean@0.1"]
    np.testing.assert_allclose(list(seen.values()), np.array(list(expected.values())) / 100, rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", ["folders", "one file", "merged"])
def test_posetrack18(golden: Golden, tmp_path: Path, form: str) -> None:
    file = golden("g_posetrack.json.gz")
    annotations, results = tmp_path / "gt", tmp_path / "pred"
    if form == "folders":
        annotations.mkdir(), results.mkdir()
        for part in file["gt"]:
            write(annotations, part["file"], part)
            write(results, part["file"], {"images": [], "annotations": file["written_predictions"][part["file"]]})
    else:
        merged = {n: [entry for part in file["gt"] for entry in part[n]] for n in ("images", "annotations")}
        annotations = write(tmp_path, "gt.json", merged if form == "merged" else file["gt"])
        predictions = [entry for part in file["gt"] for entry in file["written_predictions"][part["file"]]]
        results = write(tmp_path, "pred.json", predictions)
    seen = score_file("posetrack18", annotations, results)["metrics"]
    assert list(seen) == ["Head", "Shou", "Elb", "Wri", "Hip", "Knee", "Ankl", "Total"]
    np.testing.assert_allclose(list(seen.values()), np.array(list(file["stats"].values())) / 100, rtol=0, atol=1e-15)


# The form of the data sets' own files, of which MMPose keeps fragments (tests/data at v1.3.2): what `categories` name,
# and the fields of an annotation beside image_id, category_id, id, bbox and keypoints.
AIC_NAMES = "Right Shoulder, Right Elbow, Right Wrist, Left Shoulder, Left Elbow, Left Wrist, Right Hip, Right Knee, "
AIC_NAMES += "Right Ankle, Left Hip, Left Knee, Left Ankle, Head top, Neck"
FORMS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "coco": (list(dataset("coco").keypoints), {"area": 900.5, "iscrowd": 0, "num_keypoints": 17, "segmentation": [[]]}),
    "coco_wholebody": (
        list(dataset("coco").keypoints),
        {
            **{
                "area": 900.5,
                "iscrowd": 0,
                "num_keypoints": 17,
                "segmentation": [[]],
                "face_box": [1.0, 2.0, 3.0, 4.0],
            },
            **{"lefthand_box": [0.0] * 4, "righthand_box": [0.0] * 4, "face_valid": True, "lefthand_valid": False},
            **{"righthand_valid": False, "foot_valid": True, "lefthand_kpts": [0.0] * 63},
            **{"righthand_kpts": [0.0] * 63, "face_kpts": [30.5, 40.25, 1.0] * 68, "foot_kpts": [31, 41, 2] * 6},
        },
    ),
    "aic": (AIC_NAMES.split(", "), {"num_keypoints": 14}),
    "crowdpose": ([*dataset("crowdpose").keypoints[:12], "head", "neck"], {"iscrowd": 0, "num_keypoints": 14}),
    "posetrack18": (
        list(dataset("posetrack18").keypoints),
        {"bbox_head": [30, 30, 12, 12], "track_id": 0, "scores": [], "iscrowd": False, "num_keypoints": 15},
    ),
}
IMAGE_FORMS: dict[str, dict[str, Any]] = {
    "crowdpose": {"crowdIndex": 0.33},
    "posetrack18": {
        "ignore_regions_x": [[0, 9, 9]],
        "ignore_regions_y": [[0, 0, 9]],
        "frame_id": 5,
        "vid_id": "000005",
    },
}


def in_the_form_of(name: str) -> dict[str, Any]:
    """One image with one person, whose joints lie on a diagonal."""
    names, fields = FORMS[name]
    joints = [v for i in range(len(dataset(name).keypoints[: len(names)])) for v in (20 + 2 * i, 25 + 2 * i, 2)]
    person = {"image_id": 5, "category_id": 1, "id": 1, "bbox": [15, 20, 50.5, 60], "keypoints": joints, **fields}
    image = {"id": 5, "file_name": "5.jpg", "width": 100, "height": 90, **IMAGE_FORMS.get(name, {})}
    category = {"supercategory": "person", "id": 1, "name": "person", "keypoints": names, "skeleton": [[1, 2]]}
    return {"categories": [category], "images": [image], "annotations": [person]}


@pytest.mark.parametrize("name", FORMS)
def test_the_data_sets_own_files_are_read(tmp_path: Path, name: str) -> None:
    it, coco = dataset(name), in_the_form_of(name)
    (person,) = coco["annotations"]
    annotations = write(tmp_path, "annotations.json", coco)
    results = [{"image_id": 5, "category_id": 1, "score": 0.5, **{field: person[field] for field, _ in it.fields}}]
    for protocol in ("legacy", "v029"):
        metrics = score_file(name, annotations, write(tmp_path, "results.json", results), protocol)["metrics"]
        # -1: nobody is there to find, such as medium people, or a hand
        assert set(np.round(list(metrics.values()), 9)) <= {1.0, -1.0} and 1.0 in metrics.values()
    people = annotated_people(it, read_annotations(it, annotations), "v029")
    np.testing.assert_array_equal(people.xyxy, [[15, 20, 65.5, 80]])
    (tmp_path / "5.jpg").write_bytes(b"")
    frames = read_frames(annotations, tmp_path)
    assert len(frames.labelled()) == 1
    contract = Contract(name, it.keypoints, it.flip_pairs, it.skeleton, it.sigmas, 192, 256, 48, 64)
    joined = frames.with_joints_of(contract).coco["annotations"][0]
    assert len(joined["keypoints"]) == 3 * len(it.keypoints)
    others = [one for one in FORMS if one not in (name, "coco", "coco_wholebody")]
    for other in others:
        there = dataset(other)
        foreign = Contract(other, there.keypoints, there.flip_pairs, there.skeleton, there.sigmas, 192, 256, 48, 64)
        with pytest.raises(InputError, match="the annotations are of the|belong to another data set"):
            frames.with_joints_of(foreign)


def test_a_whole_bodys_file_is_not_one_of_bodies(tmp_path: Path) -> None:
    bodies = in_the_form_of("coco")
    with pytest.raises(InputError, match=r"annotations\[0\] \(id 1\) lacks 'foot_kpts'"):
        score_file("coco_wholebody", write(tmp_path, "a.json", bodies), write(tmp_path, "r.json", []))
    with pytest.raises(InputError, match="are of coco .*not of posetrack18: use --dataset coco"):
        score_file("posetrack18", write(tmp_path, "a.json", bodies), write(tmp_path, "r.json", []))


def test_the_wrong_data_set_is_named(golden: Golden, tmp_path: Path) -> None:
    annotations, results = files(golden, tmp_path, "crowdpose")
    with pytest.raises(
        InputError, match=r"annotations\[0\].*42 numbers.*expected 51.*as many as aic and crowdpose have"
    ):
        score_file("coco", annotations, results)
    content = json.loads(annotations.read_text())
    content["categories"][0]["keypoints"] = list(dataset("crowdpose").keypoints)
    write(tmp_path, "annotations.json", content)
    with pytest.raises(InputError, match="are of crowdpose .*not of aic: use --dataset crowdpose"):
        score_file("aic", annotations, results)
    assert score_file("crowdpose", annotations, results)["metrics"]["AP"] > 0


def test_files_that_cannot_be_used_are_named(golden: Golden, tmp_path: Path) -> None:
    annotations, results = files(golden, tmp_path, "coco")
    with pytest.raises(CatalogError, match="unknown dataset 'cocoo'.*coco"):
        score_file("cocoo", annotations, results)
    with pytest.raises(InputError, match="unknown protocol 'new'"):
        score_file("coco", annotations, results, "new")
    with pytest.raises(InputError, match="cannot read .*missing.json: No such file"):
        score_file("coco", tmp_path / "missing.json", results)
    with pytest.raises(InputError, match="are annotations and results swapped"):
        score_file("coco", annotations, annotations)
    with pytest.raises(InputError, match="must be an object with `images`"):
        score_file("coco", results, results)
    results.write_text(results.read_text()[:-20])
    with pytest.raises(InputError, match="results.json is not a JSON file"):
        score_file("coco", annotations, results)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no .json file"):
        score_file("posetrack18", tmp_path / "empty", annotations)
    write(tmp_path, "results.json", [{"keypoints": [1.0] * 48}])
    with pytest.raises(InputError, match="cannot read .*npz"):
        score_file("mpii", annotations.with_suffix(".npz"), results)
    (tmp_path / "bad.mat").write_bytes(b"not a mat file" * 20)
    with pytest.raises(InputError, match="cannot read .*bad.mat"):
        score_file("mpii", tmp_path / "bad.mat", results)


def test_nan_in_results_is_named(golden: Golden, tmp_path: Path) -> None:
    annotations, results = files(golden, tmp_path, "coco")
    content = json.loads(results.read_text())
    content[7]["keypoints"][4] = content[9]["keypoints"][0] = float("nan")
    write(tmp_path, "results.json", content)  # JSON as Python writes it, with NaN
    with pytest.raises(InputError, match=r"results\[7\] has values in 'keypoints' .* 2 of 257 results like it"):
        score_file("coco", annotations, results)


@pytest.mark.parametrize(
    "option", [["--images", "."], ["--detections", "d.json"], ["--flip-test"], ["--output", "o.json"]]
)
def test_options_of_a_bundle_are_refused_with_results(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    line = ["evaluate", "--dataset", "coco", "--annotations", "a.json", "--results", "r.json", *option]
    assert main(line) == 2
    assert f"{option[0]}: only for a bundle" in capsys.readouterr().err


def test_errors_about_records_name_the_files(tmp_path: Path) -> None:
    image = {"id": 1, "file_name": "1.png", "width": 9, "height": 9}
    person = {"id": 1, "image_id": 1, "category_id": 1, "keypoints": [1.0] * 51, "num_keypoints": 17, "area": 9.0,
              "bbox": [1, 1, 5, 5], "iscrowd": 0}  # fmt: skip
    truth, results = tmp_path / "truth.json", tmp_path / "results.json"
    truth.write_text(json.dumps({"images": [image], "annotations": [person], "categories": [{"id": 1}]}))
    results.write_text(json.dumps([{"image_id": 1, "category_id": 1, "keypoints": [1.0] * 50, "score": 0.5}]))
    with pytest.raises(InputError, match=r"truth.json and .*results.json: results\[0\] has 50 numbers"):
        score_file("coco", truth, results)
