"""A data set is one file: dropped into the folder, it passes the registry's checks and the command line scores it."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from posert.runtime import datasets as registry
from posert.runtime.cli.main import main
from posert.runtime.datasets import dataset, datasets

# A whole one. Joints and sigmas: Halpe-FullBody, the 26 of the body.
HALPE26 = '''
"""Halpe, body and feet (26 joints)."""

from posert.runtime.datasets import Dataset
from posert.runtime.metrics.oks import OKS

DATASET = Dataset(
    name="halpe26",
    keypoints=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
        "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
        "right_ankle", "head", "neck", "hip", "left_big_toe", "right_big_toe", "left_small_toe", "right_small_toe",
        "left_heel", "right_heel",
    ),
    flip_pairs=(
        (1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16), (20, 21), (22, 23), (24, 25),
    ),
    skeleton=(
        (15, 13), (13, 11), (11, 19), (16, 14), (14, 12), (12, 19), (17, 18), (18, 19), (18, 5), (5, 7), (7, 9),
        (18, 6), (6, 8), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6), (15, 20), (15, 22), (15, 24),
        (16, 21), (16, 23), (16, 25),
    ),
    sigmas=(
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089,
        0.089, 0.026, 0.026, 0.066, 0.079, 0.079, 0.079, 0.079, 0.079, 0.079,
    ),
    metric=OKS,
    boxes="annotated",
)
'''


@pytest.fixture
def halpe26(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The file in a folder that counts as a part of the registry's."""
    folder = tmp_path / "datasets"
    folder.mkdir()
    (folder / "halpe26.py").write_text(HALPE26)
    monkeypatch.setattr(registry, "__path__", [*registry.__path__, str(folder)])
    yield "halpe26"
    sys.modules.pop("posert.runtime.datasets.halpe26", None)
    vars(registry).pop("halpe26", None)


def people(joints: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    rng = np.random.default_rng(0)
    annotations, results = [], []
    for i in range(40):
        xy = rng.uniform(50, 250, (joints, 2))
        seen = rng.integers(0, 3, joints)
        record = {"image_id": i // 2, "category_id": 1}
        flat = np.column_stack([xy, seen]).ravel().tolist()
        box = {"bbox": [50, 50, 200, 200], "area": 22000.0, "iscrowd": 0, "num_keypoints": int((seen > 0).sum())}
        annotations.append({**record, "id": i + 1, "keypoints": flat, **box})
        found = np.column_stack([xy + rng.normal(0, 8, (joints, 2)), rng.uniform(0.1, 1, joints)])
        results.append({**record, "keypoints": found.ravel().tolist(), "score": float(rng.random())})
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 300, "height": 300} for i in range(20)]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "keypoints": []}]}, results


def by_pycocotools(coco: dict[str, Any], results: list[dict[str, Any]], sigmas: tuple[float, ...]) -> list[float]:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy({**coco, "info": {}})
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


def test_the_command_line_scores_it(halpe26: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco, results = people(26)
    (tmp_path / "gt.json").write_text(json.dumps(coco))
    (tmp_path / "results.json").write_text(json.dumps(results))
    command = ["evaluate", "--dataset", halpe26, "--annotations", str(tmp_path / "gt.json"), "--json"]
    assert main([*command, "--results", str(tmp_path / "results.json")]) == 0
    seen = json.loads(capsys.readouterr().out)
    expected = by_pycocotools(coco, results, dataset(halpe26).sigmas)
    assert 0.1 < expected[0] < 0.9
    assert list(seen["metrics"].values()) == expected

    # joints of another data set are named by the new one's name, too
    (tmp_path / "results.json").write_text(json.dumps([{**results[0], "keypoints": [0.5] * 51}]))
    assert main([*command, "--results", str(tmp_path / "results.json")]) == 2
    assert "51 numbers in 'keypoints', expected 78 numbers (26 joints" in capsys.readouterr().err


def test_it_passes_the_checks_of_all_data_sets(halpe26: str) -> None:
    from . import test_datasets

    assert halpe26 in datasets()
    for check in (
        test_datasets.test_constants_fit_together,
        test_datasets.test_mirroring_swaps_left_and_right_by_name,
        test_datasets.test_the_skeleton_is_symmetric_where_it_is_sided,
    ):
        check(halpe26)
