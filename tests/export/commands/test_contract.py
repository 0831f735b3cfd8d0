"""`posert contract`: what a file says, for people and for programs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from posert.runtime.cli.main import main

CONFIG = """
codec = dict(type='UDPHeatmap', input_size=(192, 256), heatmap_size=(48, 64), sigma=2)
model = dict(type='TopdownPoseEstimator', data_preprocessor=dict(mean=[1, 2, 3], std=[51, 51, 51]),
    backbone=dict(type='MyNet', width=unknown), head=dict(type='HeatmapHead', out_channels=3, decoder=codec))
train_dataloader = dict(dataset=dict(type='MyDataset'))
"""
JOINTS = "name: mouse\nkeypoints: [nose, left_paw, right_paw]\nskeleton: [[0, 1]]"


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "config.py").write_text(CONFIG)
    (tmp_path / "joints.yaml").write_text(JOINTS)
    return str(tmp_path / "config.py"), str(tmp_path / "joints.yaml")


def test_a_page(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["contract", files[0], "--dataset-file", files[1]]) == 0
    page = " ".join(capsys.readouterr().out.split())
    for words in (
        "(MMPose 1.x config)",
        "192 x 256 px (width x height), BGR (blue, green, red)",
        "std 0.2 0.2 0.2",
        "enlarged 1.25 times; it spans W px (plain) of the crop",
        "3 maps of 48 x 64 cells; the box spans w - 1 cells (UDP)",
        "udp_heatmap: DARK",
        "kernel 11",
        "off in the file; the mirrored map stays",
        "3 of mouse: nose, left_paw, right_paw",
        "swap in a mirror image: left_paw/right_paw",
        "limbs: nose/left_paw",
        "none (no OKS figures without them)",
        "MyNet, HeatmapHead",
        "not stated: model.data_preprocessor.bgr_to_rgb; taken as False (BGR), MMPose 1.x's default",
        "guessed from the names",
    ):
        assert words in page, page


def test_joints_that_are_not_stated(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["contract", files[0]]) == 0
    assert "not stated; give them with --dataset-file" in capsys.readouterr().out
    assert main(["contract", files[0], "--json"]) == 0
    assert "keypoints" not in json.loads(capsys.readouterr().out)["contract"]


def test_json(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["contract", files[0], "--dataset-file", files[1], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"source", "kind", "contract", "network", "channels", "flip_test", "notes"} <= found.keys()
    assert (found["kind"], found["channels"], found["flip_test"]) == ("heatmap", 3, False)
    assert found["contract"]["keypoints"] == ["nose", "left_paw", "right_paw"]
    assert found["contract"]["heatmap_udp"] is True and found["contract"]["udp"] is False
    assert "config.py:4: the name 'unknown' is not known" in found["network"]["backbone"]["width"]["not read"]


def test_other_joints_are_refused(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    Path(files[1]).write_text("keypoints: [a, b]")
    assert main(["contract", files[0], "--dataset-file", files[1]]) == 2
    assert "3 output channels, and the data set 'joints' has 2 joints" in capsys.readouterr().err


def test_a_config_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "base.py").write_text(CONFIG)
    (tmp_path / "config.py").write_text("_base_ = 'mmpose::base.py'")
    assert main(["contract", str(tmp_path / "config.py")]) == 2
    assert "--config-root" in capsys.readouterr().err
    assert main(["contract", str(tmp_path / "config.py"), "--config-root", str(tmp_path / "root")]) == 0


def test_an_openmmlab_config_needs_the_edge_install_only(files: tuple[str, str]) -> None:
    absent = ("torch", "onnx", "yaml", "rich", "scipy", "safetensors")
    code = (
        f"import sys\nfor m in {absent}: sys.modules[m] = None\n"
        f"from posert.runtime.cli.main import main\nsys.exit(main(['contract', {files[0]!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "MMPose 1.x config" in " ".join(done.stdout.split()), done.stderr


def test_an_unknown_decode_rule_names_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contract = {"dataset": "coco", "keypoints": ["a"], "flip_pairs": [], "skeleton": [], "sigmas": []}
    sizes = {"width": 24, "height": 32, "heatmap_width": 6, "heatmap_height": 8}
    (tmp_path / "contract.json").write_text(json.dumps({**contract, **sizes, "decode": "DEFAULT"}))
    assert main(["contract", str(tmp_path / "contract.json")]) == 2
    assert f"{tmp_path / 'contract.json'}: unknown decode rule 'DEFAULT'" in capsys.readouterr().err
