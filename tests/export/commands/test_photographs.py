"""Own joints, an own network and real photographs (tests/goldens/mirror_mouse), from labels to joints.

The figures of the gate are computed once more here, from joints that the bundle's estimator finds in the photographs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from posert.runtime import PoseEstimator
from posert.runtime.bundle.archive import Bundle
from posert.runtime.cli.main import main

MOUSE = Path(__file__).parents[2] / "goldens" / "mirror_mouse"
IMAGES = ("--images", MOUSE / "images")


def posert(*arguments: str | Path) -> int:
    return main(["build", *map(str, arguments)])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    path = tmp_path_factory.mktemp("mouse") / "mouse.pose"
    model = ("--network", MOUSE / "network.onnx", "--contract", MOUSE / "contract.yaml")
    labels = ("--annotations", MOUSE / "test.json", *IMAGES, "--calib", MOUSE / "calib.json", "--calib-images")
    status = posert(*model, *labels, MOUSE / "images", "--precision", "int8", "--max-drop", "0.05", "--output", path)
    assert status == 0
    yield path, json.loads((path.parent / "mouse-report" / "report.json").read_text())


def labels() -> Iterator[tuple[NDArray[np.uint8], list[float], NDArray[np.float64]]]:
    """Frame, box xyxy, and joints `(K, 3)` of each test photograph."""
    content = json.loads((MOUSE / "test.json").read_text())
    names = {record["id"]: record["file_name"] for record in content["images"]}
    for a in content["annotations"]:
        x, y, w, h = a["bbox"]
        frame = cv2.imread(str(MOUSE / "images" / names[a["image_id"]]))
        yield np.asarray(frame), [x, y, x + w, y + h], np.array(a["keypoints"], np.float64).reshape(-1, 3)


def pck(path: Path, precision: str) -> float:
    pose, near = PoseEstimator(path, backend="onnxruntime", precision=precision), []
    for frame, box, joints in labels():
        found = pose(frame, [box]).xy[0]
        distance = np.hypot(*(found - joints[:, :2]).T)[joints[:, 2] > 0]
        near += list(distance <= 0.05 * max(box[2] - box[0], box[3] - box[1]))
    return float(np.mean(near))


def test_the_network_finds_the_mouse(built: tuple[Path, dict[str, Any]]) -> None:
    rows = {(row["backend"], row["precision"]): row for row in built[1]["rows"]}
    assert built[1]["verdict"] == "passed" and built[1]["data"]["metric"] == "PCK@0.05"
    assert rows["onnx", "fp32"]["accuracy"] > 0.6


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_figures_of_the_gate(built: tuple[Path, dict[str, Any]], precision: str) -> None:
    (row,) = (r for r in built[1]["rows"] if (r["backend"], r["precision"]) == ("onnxruntime", precision))
    assert row["accuracy"] == pytest.approx(pck(built[0], precision), abs=1e-9)
    low, high = row["accuracy_drop_interval"]
    assert low <= row["accuracy_drop"] <= high


def test_the_bundle_knows_its_joints_and_its_calibration(built: tuple[Path, dict[str, Any]]) -> None:
    content = json.loads((MOUSE / "calib.json").read_text())
    with Bundle(built[0]) as bundle:
        assert list(bundle.contract.keypoints) == content["categories"][0]["keypoints"]
        assert bundle.contract.dataset == "mirror_mouse" and not bundle.contract.sigmas
    record = built[1]["meta"]["calibration"]
    assert record["data"].startswith("calib.json") and record["int8_macs"] > 0.5  # its stem has few channels
    assert set(record["files"]) == {image["file_name"] for image in content["images"]}


def test_photographs_in_both_sets_are_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ("--network", MOUSE / "network.onnx", "--contract", MOUSE / "contract.yaml")
    same = ("--annotations", MOUSE / "test.json", *IMAGES, "--calib", MOUSE / "test.json", "--calib-images")
    assert posert(*model, *same, MOUSE / "images", "--int8", "--output", tmp_path / "x.pose") == 2
    said = capsys.readouterr().err
    first, *_, last = (r["file_name"] for r in json.loads((MOUSE / "test.json").read_text())["images"])
    assert "20 calibration images are also in the evaluation set: " in said and f"'{first}' (there '{first}')" in said
    assert "and 10 more. " in said and last not in said and not list(tmp_path.iterdir())
