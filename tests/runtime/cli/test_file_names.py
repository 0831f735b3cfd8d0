"""File names that are not UTF-8, as old archives have them: every command takes and writes such files."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from posert.runtime.bundle.signature import SecretKey
from posert.runtime.cli.main import main

NAME = "caf\udce9"  # "café" in Latin-1


@pytest.fixture
def folder(tmp_path: Path, narrow_bundle: Path) -> Path:
    """A bundle, an image and a video, all of that name, in a folder of that name."""
    made = tmp_path / NAME
    try:
        made.mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    shutil.copyfile(narrow_bundle, made / f"{NAME}.pose")
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    (made / f"{NAME}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
    writer = cv2.VideoWriter(str(tmp_path / "plain.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (120, 90))
    for _ in range(4):
        writer.write(image)
    writer.release()
    (tmp_path / "plain.avi").rename(made / f"{NAME}.avi")
    return made


@pytest.mark.parametrize("source", [f"{NAME}.png", f"{NAME}.avi", ""])
@pytest.mark.parametrize("output", [".json", ".csv", ".parquet", ".coco.json", "folder"])
def test_a_run(folder: Path, source: str, output: str) -> None:
    if output == ".parquet":
        pytest.importorskip("pyarrow")
    target = folder / "out" / (NAME if output == "folder" else NAME + output)
    page = ["--report", str(folder / "page")] if output == "folder" else []
    given = [str(folder / f"{NAME}.pose"), str(folder / source)]
    assert main(["run", *given, "--backend", "onnxruntime", "--output", str(target), *page]) == 0
    if output == "folder":
        assert json.loads((target / "keypoints.json").read_text())["frames"]
        assert "caf\\udce9" in (folder / "page" / "report.html").read_text(encoding="utf-8")
    else:
        assert target.stat().st_size > 0


def test_an_annotation(folder: Path) -> None:
    pytest.importorskip("pyarrow")
    out, merged = folder / "results", folder / f"{NAME}.csv"
    sources = [str(folder / f"{NAME}{ending}") for ending in (".png", ".avi")]
    bundle = ["--bundle", str(folder / f"{NAME}.pose"), "--backend", "onnxruntime"]
    assert main(["annotate", *sources, *bundle, "--output", str(out), "--merge", str(merged)]) == 0
    assert len(merged.read_text(encoding="utf-8").splitlines()) == 1 + 1 + 4
    assert "caf\\udce9" in (out / "report.html").read_text(encoding="utf-8")


def test_what_is_written_of_a_bundle(folder: Path, tmp_path: Path) -> None:
    bundle, key = folder / f"{NAME}.pose", tmp_path / "owner"
    SecretKey.new().write(key)
    assert main(["card", str(bundle), "--output", str(folder / "README.md")]) == 0
    assert "caf\\udce9.pose" in (folder / "README.md").read_text(encoding="utf-8")
    assert main(["sign", str(bundle), "--key", str(key)]) == 0
    verified = ["verify", str(bundle), "--key", str(key.with_suffix(".pub")), "--backend", "onnxruntime"]
    assert main(verified) == 0
    for form in ("onnx", "triton", "polygraphy"):
        if form == "polygraphy":
            pytest.importorskip("polygraphy")
        assert main(["export", form, str(bundle), "--output", str(folder / form)]) == 0
    assert os.fsencode(f"{NAME}.fp32.onnx") in (folder / "polygraphy" / "run.sh").read_bytes()
