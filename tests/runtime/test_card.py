"""`posert card`: the hub's own class reads the front matter, and the text says what the manifest says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from posert.export.builder.plan import check_license
from posert.runtime import Bundle
from posert.runtime.bundle.archive import write_bundle
from posert.runtime.card import card
from posert.runtime.cli.main import main
from posert.runtime.errors import InputError

_ODD = 'a|b<script>`c`\n\x07"d": é \U0001f600 # ---'


def rebuilt(source: Path, path: Path, checkpoint: dict[str, Any] | None = None, **changes: Any) -> Path:
    """A bundle with another manifest."""
    with Bundle(source) as bundle:
        m = bundle.manifest
        keys = ("name", "model", "calibration", "accuracy", "versions")
        values = {**{key: m[key] for key in keys}, **changes}
        if checkpoint is not None:
            values["model"] = {**values["model"], "checkpoint": checkpoint}
        graphs = {a.name: (a, bundle.read(a)) for a in bundle.artifacts.values()}
        return write_bundle(path, contract=bundle.contract, graphs=graphs, golden=bundle.golden(), **values)


def parsed(path: Path) -> tuple[Any, str]:
    """The front matter as the hub's client reads it, and the text."""
    repocard = pytest.importorskip("huggingface_hub.repocard", reason='pip install "posert[hf]"')
    with Bundle(path) as bundle:
        read = repocard.ModelCard(card(bundle), ignore_metadata_errors=False)
    return read.data, read.text


def test_figures_are_those_of_the_gate(demo_files: Path) -> None:
    data, text = parsed(demo_files / "demo.pose")
    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "posert", "keypoint-detection")
    assert data.tags == ["pose-estimation", "pose_resnet_demo", "coco"] and data.metrics == ["AP"]
    with Bundle(demo_files / "demo.pose") as bundle:
        rows = bundle.accuracy["rows"]
        assert data.model_name == bundle.name and f"**{bundle.accuracy['verdict']}**" in text
    # eval_results is what the hub made of model-index.
    assert [one.metric_value for one in data.eval_results] == [round(row["accuracy"], 4) for row in rows]
    assert {one.dataset_name for one in data.eval_results} == {"Synthetic people of posert's demo"}
    for row in rows[1:]:
        assert f"| {row['backend']} {row['precision']} | {row['verdict']} | {row['accuracy']:.4f} |" in text
    assert "| licence | Apache-2.0 |" in text and "left_wrist" in text and "None: no graph is in int8." in text
    assert "say nothing about real photographs" in text


def test_an_unproven_bundle_claims_nothing(narrow_bundle: Path) -> None:
    data, text = parsed(narrow_bundle)
    assert data.eval_results is None and data.to_dict().get("metrics") is None and data.license is None
    assert "**unproven**" in text and "posert build --license SPDX" in text


@pytest.mark.parametrize(
    ("spdx", "license", "name"),
    [
        ("MIT", "mit", None),
        ("GPL-3.0-or-later", "gpl-3.0", None),
        ("CC-BY-NC-4.0", "cc-by-nc-4.0", None),
        ("LicenseRef-Ours", "other", "LicenseRef-Ours"),
    ],
)
def test_licences(narrow_bundle: Path, tmp_path: Path, spdx: str, license: str, name: str | None) -> None:
    check_license(spdx)
    data, text = parsed(rebuilt(narrow_bundle, tmp_path / "a.pose", {"license": spdx}))
    assert (data.license, data.license_name) == (license, name) and f"| licence | {spdx} |" in text


def test_odd_names_stay_text(narrow_bundle: Path, tmp_path: Path) -> None:
    model = {"arch": _ODD, "dataset": _ODD, "checkpoint": {"file": _ODD, "license": _ODD, "note": _ODD}}
    row = {"backend": _ODD, "precision": "fp32", "verdict": "passed", "accuracy": 0.5, "accuracy_drop": None}
    row |= {"pixel_drift_p95": None, "ms_per_person": None}
    accuracy = {"verdict": _ODD, "data": {"note": _ODD, "people": 3, "kind": _ODD}, "rows": [row]}
    path = rebuilt(narrow_bundle, tmp_path / "a.pose", name=_ODD, model=model, accuracy=accuracy)
    data, text = parsed(path)
    assert set(data.tags[1:]) == {_ODD} and data.license == "other" and data.model_name == _ODD
    assert "<script" not in text.replace("\\<script", "")
    for row_of_table in re.findall(r"^\|.*$", text, re.MULTILINE):
        assert row_of_table.endswith("|")


def test_the_block_of_the_card_runs(narrow_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("narrow.pose").write_bytes(narrow_bundle.read_bytes())
    cv2.imwrite("photo.jpg", np.zeros((240, 320, 3), np.uint8))
    with Bundle("narrow.pose") as bundle:
        (code,) = re.findall(r"```python\n(.*?)```", card(bundle), re.DOTALL)
    found: dict[str, Any] = {}
    exec(code, found)
    assert found["people"].xy.shape == (1, 17, 2)


def test_the_command(narrow_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["card", str(narrow_bundle)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("---\nlibrary_name: posert\n")
    assert main(["card", str(narrow_bundle), "--output", str(tmp_path / "README.md"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["card"] == text == (tmp_path / "README.md").read_text()


def test_a_licence_that_is_none_is_refused(narrow_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--license 'my own': expected an SPDX identifier"):
        check_license("my own")
    with pytest.raises(ValueError, match="license"):  # what could not be read back is not written
        rebuilt(narrow_bundle, tmp_path / "a.pose", {"license": 3})
