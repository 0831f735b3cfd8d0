"""`posert inspect`: the manifest, whole for programs and in short for people."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posert.runtime.bundle.archive import Artifact, Golden, describe, write_bundle
from posert.runtime.bundle.contract import Contract
from posert.runtime.cli.commands.inspect import _accuracy, _weights
from posert.runtime.cli.main import main
from posert.runtime.pose.words import output_words


def full(path: Path) -> Path:
    """A bundle with something in every place."""
    rows = [
        ("pytorch", "fp32", 0.9, 0.0, "reference"),
        ("openvino", "int8", 0.893, 0.007, "failed"),
        ("openvino", "fp16", None, None, "unproven"),
    ]
    contract = Contract(
        dataset="coco", keypoints=("a", "b"), flip_pairs=(), skeleton=(), sigmas=(0.1, 0.1), width=24, height=32,
        heatmap_width=6, heatmap_height=8, decode="unbiased", kernel=17, udp=True,
    )  # fmt: skip
    artifact = Artifact("int8", "onnx", "int8.onnx", precision="int8", opset=19, float_nodes={"head": "last layer"},
                        **describe(b"x" * 1_500_000))  # fmt: skip
    return write_bundle(
        path,
        name="full-coco-32x24",
        model={
            "id": "some_row",
            "arch": "hrnet_w99",
            "dataset": "coco",
            "checkpoint": {"source": "file", "file": "mine.pth", "sha256": "ab12", "note": "trained at home"},
        },
        contract=contract,
        graphs={"int8": (artifact, b"x" * 1_500_000)},
        golden=Golden(np.zeros((1, 32, 24, 3), np.uint8), (np.zeros((1, 2, 8, 6), np.float32),)),
        calibration={"method": "minmax"},
        accuracy={
            "verdict": "failed",
            "data": {"note": "val.json, 100 images"},
            "rows": [
                {
                    **{"backend": b, "precision": p, "accuracy": ap, "accuracy_drop": drop, "verdict": verdict},
                    **{"pixel_drift_p95": 1.25, "ms_per_person": 3.5},
                    **({} if ap is None else {"dark_drift_p95": 0.155, "jumps": 0.0012}),
                }
                for b, p, ap, drop, verdict in rows
            ],
        },
        versions={"torch": "2.13.0", "python": "3.11.7"},
    )


def test_in_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = full(tmp_path / "full.pose")
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    for text in (
        "full-coco-32x24",
        f"{path.stat().st_size / 1e6:.1f} MB, schema 2",
        "hrnet_w99 on coco, row some_row",
        "file mine.pth sha256 ab12; trained at home",
        "24x32 px crops (width x height), uint8 BGR; trained on RGB",
        "enlarged 1.25x, UDP affine",
        "2 heatmaps of 6x8, decoded by unbiased (kernel 17)",
        "int8.onnx, 1.5 MB, opset 19, 1 nodes in float",
        "failed: val.json, 100 images",
        "AP 0.8930 (drop +0.0070), p95 drift 1.25 px (DARK 0.15), 0.12% jump, 3.5 ms per person: failed",
        "AP unproven",
        "python 3.11.7, torch 2.13.0",
    ):
        assert text in out, text
    assert max(map(len, out.splitlines()[1:])) <= 160


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "2 heatmaps of 6x8, decoded by default"),
        ({"decode": "udp_combined", "kernel": 9}, "6 heatmaps of 6x8, decoded by udp_combined (kernel 9)"),
        (
            {"decode": "simcc", "heatmap_width": 48, "heatmap_height": 64},
            "two vectors for each of 2 joints, of 48 cells along x and 64 along y, decoded by simcc",
        ),
        (
            {"decode": "simcc_dark", "heatmap_width": 48, "heatmap_height": 64, "kernel": 29, "kernel_y": 35},
            "two vectors for each of 2 joints, of 48 cells along x and 64 along y, decoded by simcc_dark "
            "(kernel 29 and 35)",
        ),
        ({"decode": "of_a_plugin"}, "2 joints, decoded by of_a_plugin, a rule that is not installed here"),
    ],
)
def test_what_comes_out(changes: dict[str, Any], told: str) -> None:
    values: dict[str, Any] = {
        **{"dataset": "coco", "keypoints": ("a", "b"), "flip_pairs": (), "skeleton": (), "sigmas": ()},
        **{"width": 24, "height": 32, "heatmap_width": 6, "heatmap_height": 8},
    }
    assert output_words(Contract(**{**values, **changes})) == told


@pytest.mark.parametrize(
    ("checkpoint", "told"),
    [({"source": "random", "sha256": None, "file": None, "note": "by chance"}, "random; by chance"), ({}, "")],
)
def test_weights_without_a_file(checkpoint: dict[str, Any], told: str) -> None:
    assert _weights(checkpoint) == told


def test_published_figures_have_three_digits() -> None:
    accuracy = {"published": {"AP": 0.7, "AR": 0.756}}
    assert "  published  AP 0.700, AR 0.756: of this checkpoint" in _accuracy(accuracy)


def test_as_json_it_is_the_manifest(narrow_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--json", str(narrow_bundle)]) == 0
    with zipfile.ZipFile(narrow_bundle) as archive:
        assert json.loads(capsys.readouterr().out) == json.loads(archive.read("manifest.json"))


def test_what_is_no_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.pose").write_bytes(b"no")
    assert main(["inspect", str(tmp_path / "x.pose")]) == 2
    seen = capsys.readouterr()
    assert "not a pose bundle" in seen.err and not seen.out
