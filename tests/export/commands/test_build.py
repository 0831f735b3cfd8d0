"""`posert build` end to end: a small build with trained weights, the gate that fails, and refusals before any work."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from posert.calib.cache import read_cache
from posert.calib.search import Measurement
from posert.calib.sensitivity import Block
from posert.export import given_images
from posert.export.archs import build_arch
from posert.export.builder import graphs, int8, pipeline, tuning
from posert.export.builder.plan import PRECISIONS, Plan
from posert.export.builder.tuning import Tuner
from posert.export.commands import build as build_module
from posert.export.demo import demo_weights
from posert.export.demo import frames as frames_module
from posert.export.demo.data import cached
from posert.export.graph import to_onnx
from posert.export.graph.to_onnx import run
from posert.runtime import PoseEstimator
from posert.runtime.backends import installed_backends
from posert.runtime.bundle.archive import Bundle
from posert.runtime.cli.main import main
from posert.runtime.errors import GateError, PosertError

ROOT = Path(__file__).parents[3]
DEMO = ["build", "--arch", "hrnet_demo", "--weights", "demo"]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Drawn people and downloads go into a folder of the test's own."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("cache")
        patch.setenv("POSERT_CACHE", str(path))
        patch.setattr(given_images, "_CALIBRATION_IMAGES", 12)  # as few as show that calibration happens
        yield path


@dataclass
class Built:
    status: int
    out: str
    err: str
    folder: Path


def posert(*arguments: str | Path) -> tuple[int, str, str]:
    """The command in this process, which has torch loaded already."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main([str(a) for a in arguments])
        except SystemExit as end:
            status = int(end.code or 0)
    return status, out.getvalue(), err.getvalue()


def make_plan(*arguments: str | Path) -> Plan:
    parser = argparse.ArgumentParser()
    build_module.add_arguments(parser)
    return build_module.make_plan(parser.parse_args([str(a) for a in arguments]))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Built:
    folder = tmp_path_factory.mktemp("built")
    plain, output = folder / "plain.onnx", folder / "demo.pose"
    done = posert(*DEMO, "--int8", "--limit", "14", "--max-drop", "0.05", "--output", output, "--onnx", plain, "--json")
    return Built(*done, folder)


class TestOneBuild:
    def test_it_passed_and_standard_output_is_json_alone(self, built: Built) -> None:
        assert built.status == 0, built.err
        result = json.loads(built.out)
        assert result["verdict"] == "passed"
        assert Path(result["bundle"]) == built.folder / "demo.pose"
        assert Path(result["report"]) == built.folder / "demo-report" / "report.html"
        assert "crop 256x192 (height x width), weights demo, fp32, int8" in " ".join(built.err.split())

    def test_nothing_else_is_left_behind(self, built: Built) -> None:
        assert sorted(p.name for p in built.folder.iterdir()) == ["demo-report", "demo.pose", "plain.onnx"]
        assert sorted(p.name for p in (built.folder / "demo-report").iterdir()) == ["report.html", "report.json"]

    def test_the_rows_of_the_report(self, built: Built) -> None:
        report = json.loads((built.folder / "demo-report" / "report.json").read_text())
        rows = report["rows"]
        keys = "precision backend accuracy accuracy_drop accuracy_drop_interval pixel_drift_p95 ms_per_person size_mb"
        assert all({*keys.split(), "verdict"} <= row.keys() for row in rows)
        assert (rows[0]["backend"], rows[0]["verdict"], rows[0]["accuracy_drop"]) == ("pytorch", "reference", 0)
        expected = {(b, p) for b, spec in installed_backends().items() for p in spec.runnable() if p != "fp16"}
        assert {(r["backend"], r["precision"]) for r in rows[1:]} == expected
        for row in rows[1:]:
            low, high = row["accuracy_drop_interval"]
            assert low <= row["accuracy_drop"] <= high
            assert row["accuracy_drop"] == pytest.approx(rows[0]["accuracy"] - row["accuracy"])
            assert row["verdict"] == "passed" and row["ms_per_person"] > 0
            # float32 in another order moves no peak; 8 bits move some by part of a cell, which is 1 to 4 px here
            assert row["pixel_drift_p95"] <= (0.01 if row["precision"] == "fp32" else 6)
        assert json.loads(built.out)["rows"] == rows
        sizes = {r["precision"]: r["size_mb"] for r in rows[1:] if r["backend"] != "torchscript"}
        assert sizes["int8"] < 0.4 * sizes["fp32"]

    def test_the_bundle_says_what_it_is(self, built: Built) -> None:
        with Bundle(built.folder / "demo.pose") as bundle:
            bundle.check()
            assert list(bundle.artifacts) == ["fp32", "int8", "int8_gpu", "torchscript"]
            assert bundle.accuracy["verdict"] == "passed"
            assert bundle.accuracy["rows"] == json.loads(built.out)["rows"]
            checkpoint = bundle.manifest["model"]["checkpoint"]
            assert checkpoint["source"] == "demo" and "say nothing about real photographs" in checkpoint["note"]
            assert bundle.accuracy["data"]["people"] > 8
            calibration = bundle.manifest["calibration"]
            assert calibration["images"] > 1 and calibration["int8_macs"] >= 0.95
            # twelve images: all people are needed for the ranges
            assert (
                "0 are left to tune on, and accuracy needs 20. With 28 labelled instances or more"
                in calibration["search"]["reason"]
            )
            assert calibration["verdict"] == json.loads(built.out)["int8"]
            assert {"torch", "onnx", "numpy", "python"} <= bundle.manifest["versions"].keys()
            assert bundle.artifacts["fp32"].golden_error < 1e-4 < bundle.artifacts["int8"].golden_error

    def test_calibrate_finds_the_graph_and_the_ranges_of_the_build(self, built: Built, tmp_path: Path) -> None:
        status, _, err = posert("calibrate", *DEMO[1:], "--output", tmp_path / "s.json")
        assert status == 0, err
        scales = read_cache(tmp_path / "s.json")
        with Bundle(built.folder / "demo.pose") as bundle:
            scales.check_graph(bundle.artifacts["fp32"].sha256, "s.json")
            assert {n: [r.lo, r.hi] for n, r in scales.ranges.items()} == bundle.manifest["calibration"]["ranges"]
            assert scales.sets[0]["sha256"] == bundle.manifest["calibration"]["sha256"]

    def test_nothing_of_this_machine_is_in_it(self, built: Built) -> None:
        data = (built.folder / "demo.pose").read_bytes()
        for text in (str(ROOT), str(built.folder), str(Path.home()), os.environ["POSERT_CACHE"]):
            assert text.encode() not in data, text

    def test_the_estimator_finds_the_people(self, built: Built) -> None:
        """On other images than those of the gate, against where the generator put the joints."""
        pose = PoseEstimator(built.folder / "demo.pose", threads=1)
        assert pose.selection.precision == next(iter(installed_backends()[pose.selection.backend].runnable()))
        assert "passed the accuracy gate" in pose.selection.reason
        images, coco = cached("val", 18)
        errors = []
        for a in coco["annotations"]:
            if a["image_id"] in {r["id"] for r in coco["images"][14:]} and a["num_keypoints"]:
                x, y, w, h = a["bbox"]
                frame = images[[r["id"] for r in coco["images"]].index(a["image_id"])]
                truth = np.reshape(a["keypoints"], (-1, 3))
                seen = pose(frame, [[x, y, x + w, y + h]]).xy[0]
                errors += list(np.linalg.norm(seen - truth[:, :2], axis=1)[truth[:, 2] == 2] / max(w, h))
        # its AP is 0.9: most visible joints lie within a few percent of the person's size
        assert len(errors) > 40 and float(np.median(errors)) < 0.03

    def test_the_plain_graph_is_the_network(self, built: Built) -> None:
        network = build_arch("hrnet_demo", 17)
        network.load_state_dict(demo_weights("hrnet_demo"))
        images = torch.randn(2, 3, 256, 192, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            expected = network(images).numpy()
        (seen,) = run(onnx.load(built.folder / "plain.onnx"), {"images": images.numpy()})
        np.testing.assert_allclose(seen, expected, rtol=0, atol=1e-4 * float(np.abs(expected).max()))

    def test_verify_and_inspect(self, built: Built) -> None:
        status, out, _ = posert("verify", built.folder / "demo.pose", "--json")
        assert status == 0 and json.loads(out)["passed"]
        status, out, _ = posert("inspect", built.folder / "demo.pose")
        assert status == 0 and "hrnet_demo on coco" in out and "int8" in out

    def test_the_page_needs_no_other_file(self, built: Built) -> None:
        page = (built.folder / "demo-report" / "report.html").read_text()
        assert "<svg" in page and "data:image/" in page
        assert 'src="http' not in page and 'href="http' not in page and "<script src" not in page


def break_head(model: onnx.ModelProto, *_: object) -> onnx.ModelProto:
    """A graph whose last layer has the wrong sign: every peak is a valley."""
    broken = onnx.ModelProto()
    broken.CopyFrom(model)
    head = next(t for t in broken.graph.initializer if t.name == "final_layer.weight")
    head.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(head), head.name))
    return broken


class TestTheGateFails:
    def test_a_planted_fault(self, built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The failed bundle does not take the place of a good one."""
        monkeypatch.setattr(graphs, "to_fp16", break_head)
        good = (built.folder / "demo.pose").read_bytes()
        (tmp_path / "x.pose").write_bytes(good)
        status, out, err = posert(*DEMO, "--half", "--limit", "14", "--output", tmp_path / "x.pose", "--json")
        assert status == 1 and (tmp_path / "x.pose").read_bytes() == good
        assert "did not fail its gate and is kept" in " ".join(err.split())
        output = tmp_path / "x.failed.pose"
        result = json.loads(out)
        assert Path(result["bundle"]) == output
        assert result["verdict"] == "failed"
        assert {r["verdict"] for r in result["rows"] if r["precision"] == "fp16"} == {"failed"}
        assert {r["verdict"] for r in result["rows"][1:] if r["precision"] == "fp32"} == {"passed"}
        with Bundle(output) as bundle:
            assert bundle.accuracy["verdict"] == "failed"
        pose = PoseEstimator(output, threads=1)
        assert pose.selection.precision in ("fp32", "bf16")
        assert json.loads((tmp_path / "x.failed-report" / "report.json").read_text())["verdict"] == "failed"

    @pytest.fixture
    def exported(self, built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
        """The graph that the first build exported: seven seconds less."""
        monkeypatch.setattr(graphs, "to_onnx", lambda *_: onnx.load(built.folder / "plain.onnx"))

    @pytest.mark.usefixtures("exported")
    def test_a_graph_that_gives_nan_fails_and_the_others_are_built(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def spoil(model: onnx.ModelProto, *_: object) -> onnx.ModelProto:
            broken = break_head(model)
            head = next(t for t in broken.graph.initializer if t.name == "final_layer.weight")
            head.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(head) * np.float32(np.nan), head.name))
            return broken

        monkeypatch.setattr(graphs, "to_fp16", spoil)
        output = tmp_path / "nan.pose"
        status, out, err = posert(*DEMO, "--half", "--limit", "14", "--output", output, "--json")
        assert status == 1, err
        rows = json.loads(out)["rows"]
        assert all(r["verdict"] == ("failed" if r["precision"] == "fp16" else "passed") for r in rows[1:])
        assert all("NaN" in r["reason"] and r["ms_per_person"] is None for r in rows if r["precision"] == "fp16")
        with Bundle(output) as bundle:
            assert bundle.artifacts["fp16"].golden_error is None
            assert bundle.accuracy["rows"] == rows
        report = json.loads((tmp_path / "nan-report" / "report.json").read_text())
        assert "could not be evaluated" in report["headline"] and "NaN" in report["headline"]
        status, out, _ = posert("inspect", output)
        assert status == 0 and "NaN" in out
        assert PoseEstimator(output, threads=1).selection.precision in ("fp32", "bf16")

    @pytest.mark.usefixtures("exported")
    def test_a_target_that_no_int8_graph_holds(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def hopeless(self: Tuner, variants: Mapping[str, bytes], what: str) -> Measurement:
            assert set(variants) == {"int8", "int8_gpu"}
            return Measurement(0.04 if "search" in what else 0.05, (0.03, 0.06), 10.0)

        def two(*_: object, **__: object) -> list[Block]:
            return [Block("layer1.0", ("layer1.0.conv1",), 0.1, 0.5), Block("layer1.1", ("layer1.1.conv1",), 0.9, 0.1)]

        monkeypatch.setattr(tuning, "MIN_PEOPLE_FOR_AP", 1)
        monkeypatch.setattr(Tuner, "measure", hopeless)
        monkeypatch.setattr(int8, "block_sensitivity", two)
        arguments = ["--int8", "--limit", "2", "--max-drop", "0.01", "--onnx", tmp_path / "p.onnx"]
        status, out, err = posert(*DEMO, *arguments, "--output", tmp_path / "x.pose", "--json")
        assert status == 1 and json.loads(out)["kind"] == "GateError", err
        assert "no int8 network keeps the AP drop within 0.01: the best of 2 measured loses 0.04" in err
        assert "with 1 of 2 blocks in float" in err and not list(tmp_path.iterdir())

    def test_an_error_leaves_the_old_bundle(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise GateError("planted")

        monkeypatch.setattr(pipeline, "judge", refuse)
        output = tmp_path / "kept.pose"
        output.write_bytes(b"the old one")
        status, out, err = posert(*DEMO, "--limit", "4", "--output", output, "--onnx", tmp_path / "p.onnx", "--json")
        assert status == 1 and json.loads(out) == {"error": "planted", "kind": "GateError"}
        assert "posert build: planted" in err
        assert output.read_bytes() == b"the old one" and [p.name for p in tmp_path.iterdir()] == ["kept.pose"]


class TestOwnData:
    @pytest.fixture(scope="class")
    @classmethod
    def data(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Synthetic people on disk, as a user has photographs: `val.json`, `train.json` and their folders."""
        folder = tmp_path_factory.mktemp("own")
        for split, count in (("val", 15), ("calib", 8)):
            images, coco = cached(split, count)
            (folder / split).mkdir()
            for record, image in zip(coco["images"], images, strict=True):
                cv2.imwrite(str(folder / split / record["file_name"]), image)
            (folder / f"{split}.json").write_text(json.dumps(coco))
        return folder

    def test_judged_and_calibrated_on_the_users_files(self, data: Path, tmp_path: Path) -> None:
        own = ["--annotations", data / "val.json", "--images", data / "val", "--limit", "14"]
        calib = ["--calib", data / "calib.json", "--calib-images", data / "calib"]
        output = tmp_path / "own.pose"
        status, out, err = posert(*DEMO, *own, *calib, "--output", output, "--json")
        assert status == 0, err
        result = json.loads(out)
        assert result["rows"][0]["accuracy"] > 0.5
        with Bundle(output) as bundle:
            assert bundle.accuracy["data"]["kind"] == "user"
            assert bundle.accuracy["data"]["note"].startswith("val.json, 14 of ")
            assert bundle.accuracy["data"]["images"] == 14

    def test_random_weights_prove_nothing_even_on_labelled_images(self, data: Path) -> None:
        own = ["--annotations", data / "val.json", "--images", data / "val"]
        plans = [make_plan("--arch", "hrnet_w32", "--weights", weights, *own) for weights in ("random", "demo")]
        assert [plan.labelled for plan in plans] == [False, True]

    def test_calibrating_on_the_images_of_the_gate_is_refused(self, data: Path, tmp_path: Path) -> None:
        same = ["--annotations", data / "val.json", "--images", data / "val"]
        calib = ["--calib", data / "val.json", "--calib-images", data / "val"]
        status, out, err = posert(*DEMO, *same, *calib, "--output", tmp_path / "x.pose", "--json")
        assert status == 2 and json.loads(out)["kind"] == "CalibrationError"
        assert "evaluation set" in err and not list(tmp_path.iterdir())

    def test_annotations_of_another_data_set(self, data: Path, tmp_path: Path) -> None:
        own = ["--annotations", data / "val.json", "--images", data / "val"]
        status, _, err = posert(
            "build",
            "--model",
            "mm_hrnet_w32_mpii_256x256",
            "--weights",
            "random",
            *own,
            "--output",
            tmp_path / "x.pose",
        )
        assert (
            status == 2
            and "of the 17 joints nose" in err
            and "the 16 joints right_ankle" in err
            and not list(tmp_path.iterdir())
        )


class TestRefusedBeforeAnyWork:
    @pytest.fixture(autouse=True)
    def no_work(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise AssertionError("work was done before the refusal")

        monkeypatch.setattr(frames_module, "cached", refuse)
        monkeypatch.setattr(pipeline, "build_bundle", refuse)
        monkeypatch.chdir(tmp_path)
        (tmp_path / "folder").mkdir()
        (tmp_path / "file").write_text("")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "which model? Give --arch"),
            (["--arch", "hrnet_w32", "--model", "mm_hrnet_w32_coco_256x192"], "which model?"),
            (["--arch", "hrnet_w23"], "hrnet_w32"),
            (["--arch", "resnet"], "pose_resnet_50"),
            (["--model", "mm_hrnet_w32_coco_256x193"], "Did you mean mm_hrnet_w32_coco_256x192"),
            (["--arch", "hrnet_w32", "--imgsz", "999x111"], "256x192"),
            (["--arch", "hrnet_w32", "--imgsz", "256"], "HEIGHTxWIDTH"),
            (["--arch", "hrnet_w32", "--dataset", "cocoo"], "coco"),
            (["--model", "mm_hrnet_w32_coco_256x192", "--imgsz", "256x192"], "--model already names one data set"),
            (["--arch", "hrnet_w32", "--precision", "fp32,fp8"], "--precision fp8: expected a comma list"),
            (["--arch", "hrnet_w32", "--annotations", "x.json"], "--annotations FILE and --images DIR go together"),
            (["--arch", "hrnet_w32", "--images", "folder"], "--annotations FILE and --images DIR go together"),
            (["--arch", "hrnet_w32", "--calib", "x.json"], "--calib FILE and --calib-images DIR go together"),
            (["--arch", "hrnet_w32", "--calib-cache", "s.json"], "--calib-cache applies to int8: add --int8"),
            (["--arch", "hrnet_w32", "--int8", "--calib-cache", "file"], "file is not a calibration cache"),
            (["--arch", "hrnet_w32", "--max-drop", "-0.1"], "--max-drop -0.1"),
            (["--arch", "hrnet_w32", "--max-drop", "1"], "--max-drop 1"),
            (["--arch", "hrnet_w32", "--max-drop", "nan"], "--max-drop nan"),
            (["--arch", "hrnet_w32", "--max-drift", "-1"], "--max-drift -1"),
            (["--arch", "hrnet_w32", "--max-drift", "nan"], "--max-drift nan"),
            (["--arch", "hrnet_w32", "--limit", "0"], "--limit: expected a whole number of 1 or more, got '0'"),
            (["--arch", "hrnet_w32", "--limit", "-3"], "--limit: expected a whole number of 1 or more, got '-3'"),
            (["--arch", "hrnet_w32", "--opset", "12"], "--opset 12: expected 17 to 25"),
            (["--arch", "hrnet_w32", "--output", "folder"], "it is a folder"),
            (["--arch", "hrnet_w32", "--output", "file/x.pose"], "is not a folder"),
            (["--arch", "hrnet_w32", "--onnx", "folder"], "it is a folder"),
            (["--arch", "hrnet_w32", "--report", "file"], "is not a folder"),
            (["--arch", "hrnet_w32", "--weights", "none.pth"], "there is no checkpoint file none.pth"),
            (["--arch", "mspn_50", "--weights", "demo"], "no demo weights for mspn_50"),
            (["--model", "mm_hrnet_w32_mpii_256x256", "--weights", "demo"], "COCO's 17 joints"),
            (
                ["--arch", "hrnet_w32", "--weights", "random", "--annotations", "none.json", "--images", "folder"],
                "cannot read none.json",
            ),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_with_a_word_that_helps(self, arguments: list[str], message: str, tmp_path: Path) -> None:
        status, out, err = posert("build", *arguments, "--json")
        assert status == 2
        assert message in err, err
        assert json.loads(out)["error"] in err
        assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]

    @pytest.mark.parametrize("option", ["--opset=x", "--max-drop=much", "--nothing"])
    def test_what_argparse_refuses(self, option: str) -> None:
        status, out, err = posert("build", "--arch", "hrnet_w32", option)
        assert status == 2 and not out and "usage: posert build" in err


def test_weights_auto_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing answers at the proxy's address, as on a machine without a network."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    status, out, err = posert("build", "--arch", "hrnet_w32", "--output", tmp_path / "x.pose", "--json")
    assert status == 2 and json.loads(out)["kind"] == "CheckpointError"
    for way in ("--weights FILE", "--weights demo", "--weights random"):
        assert way in err
    assert not list(tmp_path.iterdir())


def test_the_script_is_the_command(tmp_path: Path) -> None:
    """`python export/build_engine.py`, from any folder, with the libraries' own names next to it on the path."""
    for arguments, status in ((["--arch", "hrnet_w23"], 2), (["--help"], 0)):
        script = [sys.executable, str(ROOT / "export" / "build_engine.py"), *arguments]
        done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        expected = posert("build", *arguments)
        assert done.returncode == expected[0] == status, done.stderr
        assert done.stderr == expected[2]
        assert done.stdout.split() == expected[1].split()


class TestPlan:
    def plan(self, *arguments: str) -> Plan:
        return make_plan(*DEMO[1:], "--limit", "2", *arguments)

    @pytest.mark.parametrize(
        ("arguments", "precisions"),
        [
            ([], ("fp32",)),
            (["--precision", "int8"], ("fp32", "int8")),
            (["--precision", " INT8 , fp16,"], ("fp32", "fp16", "int8")),
            (["--half"], ("fp32", "fp16")),
            (["--half", "--int8"], ("fp32", "fp16", "int8")),
            (["--precision", "fp16", "--int8"], ("fp32", "fp16", "int8")),
        ],
    )
    def test_precisions(self, arguments: list[str], precisions: tuple[str, ...]) -> None:
        assert self.plan(*arguments).precisions == precisions

    def test_labels_that_mean_something_for_the_weights(self, tmp_path: Path) -> None:
        assert self.plan().tunable
        random = make_plan("--arch", "hrnet_w32", "--weights", "random")
        assert not random.tunable and not random.labelled

    def test_int8_of_synthetic_people_is_told(self) -> None:
        from posert.export.commands.build import calibrates_on_strangers

        int8 = ["--arch", "hrnet_w32", "--precision", "int8", "--weights"]
        assert calibrates_on_strangers(make_plan(*int8, "auto", "--calib", "demo"))
        assert not calibrates_on_strangers(make_plan(*int8, "demo"))
        assert not calibrates_on_strangers(make_plan(*int8, "random"))
        assert not calibrates_on_strangers(make_plan("--arch", "hrnet_w32"))
        assert not make_plan(*int8, "auto", "--calib", "demo").tunable
        with pytest.raises(PosertError, match="int8 needs images of yours.*--calib demo"):
            make_plan(*int8, "auto")

    def test_defaults(self) -> None:
        plan = self.plan()
        assert plan.output == Path("hrnet_demo-coco-256x192.pose") and plan.max_drop == 0.005 and plan.labelled
        assert len(plan.held_out.coco["images"]) == 2
        assert plan.held_out.kind == "demo" and "synthetic people" in plan.held_out.note
        random = make_plan("--arch", "hrnet_w32", "--weights", "random", "--limit", "3")
        assert len(random.held_out.coco["images"]) == 3

    def test_frames_of_the_demo_can_be_read_both_ways(self) -> None:
        frames = self.plan().held_out
        record = frames.coco["images"][0]
        encoded = cv2.imdecode(np.frombuffer(frames.read(record["file_name"]), np.uint8), cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(encoded, frames.load(record))

    def test_held_out_and_calibration_images_differ(self) -> None:
        plan = self.plan()
        held_out, calibration = (
            [f.read(r["file_name"]) for r in f.coco["images"]] for f in (plan.held_out, plan.calibration)
        )
        assert not set(held_out) & set(calibration)


def test_defaults_in_the_help_are_those_of_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    """The help repeats them, because the modules that define them need torch."""
    assert main(["build", "--help"]) == main(["calibrate", "--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert f"ONNX operator set, {to_onnx.OPSETS[0]} to {to_onnx.OPSETS[-1]} (default: {to_onnx.OPSET})" in out
    assert f"crops to calibrate on (default: {graphs.CALIBRATION_PEOPLE})" in out
    assert f"{', '.join(PRECISIONS)} (default: fp32)" in out
