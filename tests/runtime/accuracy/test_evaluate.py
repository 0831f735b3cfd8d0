"""A bundle on the images of a data set: the same joints as one call after another, also after an interruption."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from posert.runtime.accuracy.evaluate import compare, estimate_people, fingerprint, read_people
from posert.runtime.accuracy.people import People
from posert.runtime.bundle.archive import Bundle, write_bundle
from posert.runtime.cli.main import main
from posert.runtime.datasets import dataset
from posert.runtime.errors import InputError
from posert.runtime.estimator import PoseEstimator
from posert.runtime.metrics.oks import evaluate_oks
from posert.runtime.pose.decode import decode, to_frame
from posert.runtime.pose.flip import merge
from posert.runtime.pose.preprocess import check_boxes, crop, crop_matrices, crop_regions

Data = tuple[Path, Path]
COCO = dataset("coco")


@pytest.fixture
def data(tmp_path: Path) -> Data:
    """An annotation file and a folder of images: 11 people in 5 of 6 images, one of them a crowd."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    images, people = [], []
    for i in range(6):
        noise = rng.integers(0, 256, (12, 16, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), cv2.resize(noise, (160, 120)))
        images.append({"id": 10 - i, "file_name": f"{i}.png", "width": 160, "height": 120})
        for _ in range((2, 0, 3, 1, 2, 3)[i]):
            x, y, w, h = rng.uniform((0, 0, 30, 40), (90, 60, 60, 60))
            joints = np.concatenate([rng.uniform((x, y), (x + w, y + h), (17, 2)), np.full((17, 1), 2)], axis=1)
            people.append(
                {
                    "id": len(people) + 1,
                    "image_id": 10 - i,
                    "category_id": 1,
                    "iscrowd": int(len(people) == 4),
                    "area": w * h,
                    "bbox": [x, y, w, h],
                    "num_keypoints": 17,
                    "keypoints": joints.ravel().tolist(),
                }
            )
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps({"images": images, "annotations": people, "categories": [{"id": 1}]}))
    return path, folder


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any]:
    status = main(["evaluate", *map(str, arguments), "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_figures_are_those_of_the_estimator(
    narrow_bundle: Path, data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations, folder = data
    output = tmp_path / "results.json"
    status, report = run(
        capsys, narrow_bundle, "--annotations", annotations, "--images", folder, "--output", output,
        "--backend", "onnxruntime",
    )  # fmt: skip
    assert status == 0
    assert (report["dataset"], report["protocol"], report["boxes"]) == ("coco", "legacy", "annotated")
    assert (report["people"], report["images"], report["flip_test"]) == (10, 5, False)
    assert "verdict" not in report, "these weights were not published"

    coco, records = json.loads(annotations.read_text()), json.loads(output.read_text())
    assert report["metrics"] == evaluate_oks(coco, records, COCO.sigmas).metrics
    pose = PoseEstimator(narrow_bundle, backend="onnxruntime")
    for image in coco["images"]:
        people = [p for p in coco["annotations"] if p["image_id"] == image["id"] and not p["iscrowd"]]
        if people:
            x, y, w, h = np.array([p["bbox"] for p in people]).T
            boxes = np.stack([x, y, x + w - 1, y + h - 1], axis=1)  # the legacy protocol's boxes
            found = pose(cv2.imread(str(folder / image["file_name"])), boxes)
            seen = [r["keypoints"] for r in records if r["image_id"] == image["id"]]
            expected = np.concatenate([found.xy, found.score[..., None]], axis=2).reshape(len(people), -1)
            for one in seen:  # duplicates may be gone, the order is that of the scores
                assert np.abs(expected - one).max(axis=1).min() < 1e-3
    assert not list(tmp_path.glob("*.partial"))


def test_flip_test_is_reported_beside_the_plain_way(
    narrow_bundle: Path, data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = (narrow_bundle, "--annotations", data[0], "--images", data[1], "--backend", "onnxruntime")
    _, plain = run(capsys, *common, "--output", tmp_path / "a.json")
    _, both = run(capsys, *common, "--output", tmp_path / "b.json", "--flip-test")
    assert both["without_flip_test"]["metrics"] == plain["metrics"]
    assert both["flip_test"] and both["ms_per_person"] > 0 and both["without_flip_test"]["ms_per_person"] > 0
    assert json.loads((tmp_path / "a.json").read_text()) != json.loads((tmp_path / "b.json").read_text())


def test_a_run_stopped_on_its_second_pass_keeps_the_first(
    narrow_bundle: Path, data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    common = (narrow_bundle, "--annotations", data[0], "--images", data[1], "--backend", "onnxruntime", "--flip-test")
    _, whole = run(capsys, *common, "--output", tmp_path / "a.json")
    passes: list[bool] = []
    estimate = PoseEstimator.estimate_regions

    def stopped(pose: PoseEstimator, *region: Any) -> Any:
        passes.append(pose.flip_test)
        if passes.count(True) == 3:
            raise KeyboardInterrupt
        return estimate(pose, *region)

    monkeypatch.setattr(PoseEstimator, "estimate_regions", stopped)
    arguments = ["evaluate", *map(str, common), "--output", str(tmp_path / "b.json"), "--json"]
    assert main(arguments) == 130
    capsys.readouterr()
    assert passes == [False] * 5 + [True] * 3
    passes.clear()
    monkeypatch.setattr(
        PoseEstimator,
        "estimate_regions",
        lambda pose, *region: passes.append(pose.flip_test) or estimate(pose, *region),
    )
    status, seen = run(capsys, *arguments[1:-1])
    assert status == 0 and passes == [True] * 3
    assert (
        seen["metrics"] == whole["metrics"]
        and seen["without_flip_test"]["metrics"] == whole["without_flip_test"]["metrics"]
    )
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert not list(tmp_path.glob("*.partial"))


def test_results_of_another_way_to_run_are_kept(
    narrow_bundle: Path, data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --output; a flip test goes on from a plain run that stopped, whose results have another name."""
    monkeypatch.chdir(tmp_path)
    common = (narrow_bundle, "--annotations", data[0], "--images", data[1], "--backend", "onnxruntime")
    places = {}
    for options in ((), ("--backend", "torchscript"), ("--flip-test",)):
        _, report = run(capsys, *common, "--precision", "fp32", *options)
        places[report["results"]] = Path(report["results"]).read_bytes()
    start = f"out/evaluate/{report['results'].split('/')[-1].split('.')[0]}."
    names = ("onnxruntime.fp32", "torchscript.fp32", "onnxruntime.fp32.flip")
    assert list(places) == [f"{start}{name}.json" for name in names]
    kept = {str(path.relative_to(tmp_path)): path.read_bytes() for path in Path(tmp_path, "out/evaluate").iterdir()}
    assert kept == places, "none is written by two"
    assert places[f"{start}onnxruntime.fp32.json"] != places[f"{start}onnxruntime.fp32.flip.json"]

    passes: list[bool] = []
    estimate = PoseEstimator.estimate_regions

    def stopped(pose: PoseEstimator, *region: Any) -> Any:
        passes.append(pose.flip_test)
        if len(passes) == 3:
            raise KeyboardInterrupt
        return estimate(pose, *region)

    monkeypatch.setattr(PoseEstimator, "estimate_regions", stopped)
    assert main(["evaluate", *map(str, common), "--precision", "fp32", "--json"]) == 130
    capsys.readouterr()
    passes[:] = [False] * 9
    status, again = run(capsys, *common, "--precision", "fp32", "--flip-test")
    assert status == 0 and passes[9:] == [False] * 3 + [True] * 5, "two images were in the journal"
    assert again["metrics"] == report["metrics"]
    assert {str(path.relative_to(tmp_path)) for path in Path(tmp_path, "out/evaluate").iterdir()} == set(kept)


def test_help_names_every_precision(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--help"]) == 0
    said = capsys.readouterr().out
    assert "fp32, bf16, fp16 or int8 (default: auto" in " ".join(said.split())


def test_flip_test_is_the_mean_of_two_runs(narrow_bundle: Path) -> None:
    pose = PoseEstimator(narrow_bundle, backend="onnxruntime", flip_test=True)
    frame = np.random.default_rng(1).integers(0, 256, (120, 160, 3)).astype(np.uint8)
    boxes = [[10, 10, 70, 100], [40, 20, 150, 110]]
    c = pose.contract
    center, extent = crop_regions(check_boxes(boxes), c)
    crops = crop(frame, crop_matrices(center, extent, c.width, c.height, c.udp), c.width, c.height)
    maps = np.concatenate(
        [pose.session.infer(one)[0].copy() for one in (crops, np.ascontiguousarray(crops[:, :, ::-1]))]
    )
    peaks, score = decode((merge(maps, COCO.flip_index, c.flip_shift),), c)
    seen = pose(frame, boxes)
    np.testing.assert_allclose(seen.score, score, rtol=1e-5)  # another batch size may round differently
    np.testing.assert_allclose(
        seen.xy, to_frame(peaks, center, extent, c.heatmap_width, c.heatmap_height, c.udp), atol=1e-3
    )


@pytest.fixture
def pose(narrow_bundle: Path) -> PoseEstimator:
    return PoseEstimator(narrow_bundle, backend="onnxruntime")


def people_of(data: Data, protocol: str = "legacy") -> People:
    return read_people(COCO, data[0], None, protocol)[0]


def test_an_interrupted_run_resumes(
    pose: PoseEstimator, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = people_of(data)
    calls: list[int] = []
    regions = PoseEstimator.estimate_regions

    def count(pose: PoseEstimator, *region: Any) -> Any:
        calls.append(len(region[1]))
        if len(calls) == stop:
            raise KeyboardInterrupt
        return regions(pose, *region)

    monkeypatch.setattr(PoseEstimator, "estimate_regions", count)

    def run(name: str, graph: str = "graph", workers: int = 2) -> tuple[list[dict[str, Any]], float | None]:
        calls.clear()
        return estimate_people(pose, COCO, people, data[1], tmp_path / name, graph, "legacy", workers)

    stop = 0
    expected, ms = run("whole")
    assert len(calls) == 5 and ms is not None and ms > 0
    stop = 4
    with pytest.raises(KeyboardInterrupt):
        run("part")
    torn = (tmp_path / "part").read_bytes()
    assert torn.count(b"\n") == 1 + 3
    (tmp_path / "part").write_bytes(torn[:-7])  # the last line was not written to its end
    stop = 0
    resumed, ms = run("part", workers=1)
    assert len(calls) == 3 and ms is not None
    assert resumed == expected
    again, ms = run("part")
    assert (again, ms, calls) == (expected, None, [])
    run("part", graph="other")
    assert len(calls) == 5, "the journal of another graph is started over"


def test_what_a_journal_belongs_to(pose: PoseEstimator, data: Data) -> None:
    people = people_of(data)
    key = fingerprint("graph", pose, people)
    flipped = PoseEstimator.from_session(pose.contract, pose.session, pose.selection, flip_test=True)
    later = people_of(data, "v029")
    assert fingerprint("graph", pose, people) == key
    assert key not in {
        fingerprint(*of) for of in (("other", pose, people), ("graph", flipped, people), ("graph", pose, later))
    }


def test_images_that_are_gone_or_damaged_are_named(pose: PoseEstimator, data: Data, tmp_path: Path) -> None:
    people = people_of(data)
    (data[1] / "2.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"2.png.*cannot be decoded"):
        estimate_people(pose, COCO, people, data[1], tmp_path / "j", "graph", "legacy")
    (data[1] / "2.png").unlink()
    with pytest.raises(InputError, match=r"lacks 1 of 5 images, such as 2.png"):
        estimate_people(pose, COCO, people, data[1], tmp_path / "j", "graph", "legacy")


def test_detections(narrow_bundle: Path, data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = [
        {"image_id": 10, "category_id": 1, "bbox": [10, 10, 40, 80], "score": 0.5},
        {"image_id": 10, "category_id": 3, "bbox": [10, 10, 40, 80], "score": 0.9},
        {"image_id": 7, "category_id": 1, "bbox": [-10, 30, 60, 100], "score": 0.25},
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(found))
    _, report = run(
        capsys, narrow_bundle, "--annotations", data[0], "--images", data[1], "--detections", tmp_path / "boxes.json",
        "--output", tmp_path / "r.json", "--backend", "onnxruntime",
    )  # fmt: skip
    assert (report["people"], report["boxes"]) == (2, "detections")
    first, second = json.loads((tmp_path / "r.json").read_text())
    joints = np.array(first["keypoints"])[2::3]
    assert first["score"] == pytest.approx(0.5 * joints[joints > 0.2].mean() if (joints > 0.2).any() else 0)
    assert (first["image_id"], second["image_id"]) == (10, 7)


def test_mpii_people(golden: Callable[[str], Any], narrow_bundle: Path, tmp_path: Path) -> None:
    g, contract = golden("f_mpii.npz"), PoseEstimator(narrow_bundle, backend="onnxruntime").contract
    path, mpii = tmp_path / "mpii_val.json", dataset("mpii")
    people = [
        {"image": f"{i % 7}.jpg", "center": c.tolist(), "scale": float(s)}
        for i, (c, s) in enumerate(zip(g["ann_center"], g["ann_scale"], strict=True))
    ]
    path.write_text(json.dumps(people))
    with pytest.raises(InputError, match="there must be mpii_gt_val.mat"):
        read_people(mpii, path, None, "legacy")
    np.savez(tmp_path / "mpii_gt_val.npz", **{n: g[n] for n in ("pos_gt_src", "jnt_missing", "headboxes_src")})
    seen, truth = read_people(mpii, path, None, "legacy")
    center, extent = seen.regions(contract)
    np.testing.assert_array_equal(center, g["net_center"])
    np.testing.assert_array_equal(extent, g["net_scale"] * np.float32(200))
    assert [seen.files[i] for i in seen.image] == [person["image"] for person in people]
    assert sorted(truth) == ["headboxes_src", "jnt_missing", "pos_gt_src"]
    with pytest.raises(InputError, match="annotated centres"):
        read_people(mpii, path, tmp_path / "boxes.json", "legacy")


def test_published_figures_are_compared() -> None:
    rows = {row["figure"]: row for row in compare({"AP": 0.744, "AR50": 0.9, "Nose": 1}, {"AP": 0.7425, "AR50": 0.903})}
    assert set(rows) == {"AP", "AR50"}
    assert rows["AP"]["passed"] and rows["AP"]["difference"] == pytest.approx(-0.0015)
    assert not rows["AR50"]["passed"]


@pytest.mark.parametrize(
    ("measured", "flags", "verdict", "status"),
    [
        (0.5, ["--flip-test"], "not comparable: the published figures use a detector's boxes", 0),
        (0.5, [], "not comparable: the published figures use the flip test", 0),
        (0.5, ["--flip-test", "--detections"], "PASS", 0),
        (0.6, ["--flip-test", "--detections"], "FAIL", 1),
        (0.5, ["--flip-test", "--detections", "--protocol=v029"], "not comparable: .* --protocol legacy", 0),
    ],
)
def test_the_verdict_says_what_can_be_compared(
    narrow_bundle: Path,
    data: Data,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    measured: float,
    flags: list[str],
    verdict: str,
    status: int,
) -> None:
    monkeypatch.setattr("posert.runtime.bundle.archive.Bundle.accuracy", {"published": {"AP": 0.5}, "rows": []})
    monkeypatch.setattr("posert.runtime.accuracy.evaluate.score", lambda *_: {"AP": measured})
    (tmp_path / "boxes.json").write_text('[{"image_id": 10, "category_id": 1, "bbox": [10, 10, 40, 80], "score": 0.5}]')
    given = [word for flag in flags for word in ([flag, tmp_path / "boxes.json"] if flag == "--detections" else [flag])]
    seen, report = run(
        capsys, narrow_bundle, "--annotations", data[0], "--images", data[1], "--output", tmp_path / "r.json",
        "--backend", "onnxruntime", *given,
    )  # fmt: skip
    assert seen == status
    assert re.match(verdict, report["verdict"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--annotations", "a"], "give either a bundle or a results file"),
        (["B", "--annotations", "a", "--results", "r"], "give either a bundle or a results file"),
        (["--annotations", "a", "--results", "r"], "--results needs --dataset, one of aic"),
        (["B", "--annotations", "a"], "add --images DIR"),
        (["B", "--annotations", "a", "--images", "i", "--workers", "0"], "--workers: expected a whole number"),
        (["B", "--annotations", "a", "--images", "i", "--dataset", "aic"], "predicts the joints of coco, not of aic"),
    ],
)
def test_mistakes_end_with_2(
    narrow_bundle: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["evaluate", *(str(narrow_bundle) if word == "B" else word for word in arguments)]) == 2
    assert message in capsys.readouterr().err


def test_a_results_file_is_scored_and_printed(
    golden: Callable[[str], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = golden("e_coco.json.gz")
    for name in ("gt", "dets"):
        (tmp_path / name).write_text(json.dumps(file[name]))
    arguments = ["--dataset", "coco", "--annotations", tmp_path / "gt", "--results", tmp_path / "dets"]
    status, report = run(capsys, *arguments)
    assert (status, list(report)) == (0, ["dataset", "protocol", "metrics"])
    assert report["metrics"]["AP"] == golden("e_eval.json")["coco_pycocotools"][0]
    assert main(["evaluate", *map(str, arguments), "--protocol", "v029"]) == 0
    assert "AP         0.4030" in capsys.readouterr().out


@pytest.mark.parametrize("sigmas", [True, False])
def test_a_bundle_of_own_joints_needs_no_data_set_file(
    narrow_bundle: Path, data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str], sigmas: bool
) -> None:
    """Its contract has all that a data set file would say; the figures are those of COCO where the joints are."""
    own = tmp_path / "own.pose"
    with Bundle(narrow_bundle) as bundle:
        contract = replace(bundle.contract, dataset="mine", sigmas=bundle.contract.sigmas if sigmas else ())
        graphs = {name: (artifact, bundle.read(artifact)) for name, artifact in bundle.artifacts.items()}
        write_bundle(
            own, name="own", model=bundle.manifest["model"], contract=contract, graphs=graphs, golden=bundle.golden(),
            calibration=None, accuracy=bundle.accuracy, versions={},
        )  # fmt: skip
    common = ("--annotations", data[0], "--images", data[1], "--backend", "onnxruntime")
    status, report = run(capsys, own, *common, "--output", tmp_path / "own.json")
    assert status == 0 and report["dataset"] == "mine" and report["people"] == 10
    if sigmas:
        records = json.loads((tmp_path / "own.json").read_text())
        assert len(records) == 10
        metrics = evaluate_oks(json.loads(data[0].read_text()), records, COCO.sigmas, rules="xtcocotools").metrics
        assert report["metrics"] == metrics
    else:
        assert list(report["metrics"]) == ["PCK@0.05", "PCK@0.1", "PCK@0.2"]
        assert 0 <= report["metrics"]["PCK@0.05"] <= report["metrics"]["PCK@0.2"] <= 1
