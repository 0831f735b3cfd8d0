"""`posert calibrate`: the file, merging, a killed run that resumes, and what a build makes of it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import cv2
import onnx
import pytest

from posert.calib.cache import read_cache
from posert.calib.calibrated import calibrate, with_channels
from posert.calib.images import crops_from_coco, folder
from posert.calib.placement import place
from posert.calib.qdq import quantize
from posert.calib.ranges import CalibrationState, collect
from posert.export import calibration
from posert.export.demo.data import cached
from posert.runtime.bundle.archive import Bundle
from posert.runtime.cli.main import main


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, cache: None) -> Path:
    """Synthetic people on disk in two halves, as COCO files beside their folders."""
    path = tmp_path_factory.mktemp("data")
    images, coco = cached("calib", 24)
    (path / "images").mkdir()
    for record, image in zip(coco["images"], images, strict=True):
        cv2.imwrite(str(path / "images" / record["file_name"]), image)
    (path / "all.json").write_text(json.dumps(coco))
    for name, part in (("first", coco["images"][:12]), ("second", coco["images"][12:])):
        ids = {r["id"] for r in part}
        kept = [a for a in coco["annotations"] if a["image_id"] in ids]
        (path / f"{name}.json").write_text(json.dumps({**coco, "images": part, "annotations": kept}))
    return path


def posert(*arguments: str | Path) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main([str(a) for a in arguments])
        except SystemExit as end:
            status = int(end.code or 0)
    return status, out.getvalue(), err.getvalue()


def command(bundle: Path, data: Path, scales: Path, part: str = "all", *more: str) -> list[str]:
    own = ["--calib", str(data / f"{part}.json"), "--calib-images", str(data / "images")]
    return ["calibrate", str(bundle), *own, "--output", str(scales), *more]


def test_it_holds_what_collecting_finds(narrow_bundle: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    status, said, err = posert(*command(narrow_bundle, data, out, "all", "--samples", "20"))
    assert status == 0, err
    assert "--samples" not in err
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]
    scales = read_cache(out)
    with Bundle(narrow_bundle) as bundle:
        fp32 = bundle.artifacts["fp32"]
        model, contract = onnx.load_from_string(bundle.read(fp32)), bundle.contract
    coco = json.loads((data / "all.json").read_text())
    crops = crops_from_coco(coco, folder(data / "images"), contract, 20)
    expected = calibrate(model, crops)
    assert scales.ranges == expected.ranges and scales.ranges.curve == expected.ranges.curve
    assert quantize(model, scales.result("")).model == quantize(model, expected).model
    assert (scales.graph, scales.state.crops) == (fp32.sha256, 20)
    (one,) = scales.sets
    assert one["sha256"] == crops.provenance()["sha256"] and one["data"].startswith("all.json, ")
    assert fp32.sha256 in said and one["sha256"] in said and "ranges from 20 crops of" in said
    assert "changed the ranges by" in said


def test_boxes_alone_are_enough(narrow_bundle: Path, data: Path, tmp_path: Path) -> None:
    coco = json.loads((data / "first.json").read_text())
    names = {r["id"]: r["file_name"] for r in coco["images"]}
    rows = [(names[a["image_id"]], *a["bbox"]) for a in coco["annotations"]]
    lines = [f"{name},{x},{y},{x + w},{y + h}" for name, x, y, w, h in rows]
    (tmp_path / "boxes.csv").write_text("\n".join(["file,x1,y1,x2,y2", *lines]))
    (tmp_path / "boxes.json").write_text(json.dumps({n: [[x, y, x + w, y + h]] for n, x, y, w, h in rows}))
    for name, people in (("boxes.csv", len(rows)), ("boxes.json", len(coco["images"]))):
        own = ["--calib", tmp_path / name, "--calib-images", data / "images", "--samples", "99"]
        status, _, err = posert("calibrate", narrow_bundle, *own, "--output", tmp_path / "out.json")
        assert status == 0, err
        assert f"--samples 99: only {people} crops are available; using all of them" in " ".join(err.split())
        scales = read_cache(tmp_path / "out.json")
        assert scales.state.crops == people and scales.sets[0]["data"].startswith(f"{name}, boxes of ")


def test_two_files_merge_to_what_one_run_over_both_sets_finds(narrow_bundle: Path, data: Path, tmp_path: Path) -> None:
    with Bundle(narrow_bundle) as bundle:
        model, contract = onnx.load_from_string(bundle.read(bundle.artifacts["fp32"])), bundle.contract
    sets = []
    for part in ("first", "second"):
        assert posert(*command(narrow_bundle, data, tmp_path / part, part, "--samples", "12"))[0] == 0
        sets.append(
            crops_from_coco(json.loads((data / f"{part}.json").read_text()), folder(data / "images"), contract, 12)
        )
    status, out, err = posert(
        "calibrate", "--merge", tmp_path / "first", tmp_path / "second", "--output", tmp_path / "merged", "--json"
    )
    assert status == 0, err
    merged, state = read_cache(tmp_path / "merged"), CalibrationState()
    collect(model, chain(*sets), place(model).tensors, state=state)
    whole = with_channels(state.observers, merged.result("").channels, ()).ranges
    # The network takes the crops in other pieces; its sums may differ in the last bits.
    assert merged.ranges.keys() == whole.keys()
    for name, seen in whole.items():
        assert merged.ranges[name].lo == pytest.approx(seen.lo, rel=1e-5, abs=1e-6)
        assert merged.ranges[name].hi == pytest.approx(seen.hi, rel=1e-5, abs=1e-6)
    assert json.loads(out)["crops"] == merged.state.crops == 24


def test_a_killed_run_goes_on_to_the_same_bytes(
    narrow_bundle: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL, which nothing can catch, some time after the first state was saved."""
    monkeypatch.setattr(calibration, "_SAVE_EVERY", 8)
    out, partial = tmp_path / "killed.json", tmp_path / "killed.json.partial"
    arguments = command(narrow_bundle, data, out, "all", "--samples", "40")
    slow = (
        "import sys, time\n"
        "from posert.export import calibration\n"
        "from posert.runtime.cli.main import main\n"
        "write = calibration.write_cache\n"
        "calibration._SAVE_EVERY = 8\n"
        "def slowly(path, scales):\n"
        "    write(path, scales)\n"
        "    time.sleep(0.5)\n"
        "calibration.write_cache = slowly\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    child = subprocess.Popen([sys.executable, "-c", slow, *arguments], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 240
    while not partial.exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    _, err = child.communicate()
    assert child.returncode == -signal.SIGKILL, err.decode()
    assert partial.exists() and not out.exists()
    assert 0 < read_cache(partial).state.crops < 40
    status, _, said = posert(*arguments)
    assert status == 0 and "resuming after" in said and "of 40 crops" in " ".join(said.split())
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith(".")) == ["killed.json"]
    assert posert(*command(narrow_bundle, data, tmp_path / "whole.json", "all", "--samples", "40"))[0] == 0
    assert out.read_bytes() == (tmp_path / "whole.json").read_bytes()


class TestGoingOnWithSomethingElse:
    @pytest.fixture(scope="class")
    @classmethod
    def partial(cls, narrow_bundle: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
        path = tmp_path_factory.mktemp("cut") / "s.json"
        kept: list[bytes] = []
        write = calibration.write_cache

        def keep(target: Path, scales: object) -> None:
            write(target, scales)  # type: ignore[arg-type]
            kept.append(Path(target).read_bytes())

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(calibration, "_SAVE_EVERY", 8)
            patch.setattr(calibration, "write_cache", keep)
            assert posert(*command(narrow_bundle, data, path, "all", "--samples", "20"))[0] == 0
        assert len(kept) > 1
        return kept[0]

    @pytest.mark.parametrize(
        ("more", "what"),
        [(("--samples", "21"), "set of crops")],
    )
    def test_is_refused(
        self, partial: bytes, narrow_bundle: Path, data: Path, tmp_path: Path, more: tuple[str, ...], what: str
    ) -> None:
        (tmp_path / "s.json.partial").write_bytes(partial)
        status, _, err = posert(*command(narrow_bundle, data, tmp_path / "s.json", "all", *more))
        assert status == 2 and f"another {what}" in err and "delete it or choose another --output" in err
        assert [p.name for p in tmp_path.iterdir()] == ["s.json.partial"]

    def test_what_is_no_state_is_refused(self, narrow_bundle: Path, data: Path, tmp_path: Path) -> None:
        (tmp_path / "s.json.partial").write_bytes(b"{")
        status, _, err = posert(*command(narrow_bundle, data, tmp_path / "s.json"))
        assert status == 2 and "s.json.partial is not a calibration cache" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "s.json"], "which model? Give --arch"),
        (["none.pose", "--output", "s.json"], "no such file"),
        (["none.pose", "--arch", "hrnet_demo", "--output", "s.json"], "either a bundle or a model"),
        (["--arch", "hrnet_demo", "--weights", "demo", "--samples", "0", "--output", "s.json"], "--samples: expected"),
        (["--arch", "hrnet_demo", "--calib", "x.json", "--output", "s.json"], "--calib-images DIR go together"),
        (["--arch", "hrnet_demo", "--weights", "demo", "--output", "folder"], "it is a folder"),
        (["--merge", "a.json", "--output", "s.json"], "two files or more"),
        (["--merge", "a.json", "b.json", "--output", "s.json"], "cannot read a.json"),
        (["--merge", "a.json", "b.json", "--arch", "hrnet_demo", "--output", "s.json"], "--merge calibrates nothing"),
        (["--arch", "hrnet_demo"], "the following arguments are required: --output"),
    ],
)
def test_refused_with_a_word_that_helps(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkdir("folder")
    status, _, err = posert("calibrate", *arguments)
    assert status == 2 and message in err, err
    assert os.listdir() == ["folder"]
