"""`posert contract check` and `posert build --try` from end to end."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from posert.export.catalog import find
from posert.export.demo import people
from posert.runtime.cli.main import main

DEMO = ["--arch", "hrnet_demo", "--weights", "demo"]
WEIGHTS = Path(people.__file__).with_name("hrnet_demo.safetensors")


@pytest.fixture(scope="module")
def photos(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A folder with images/ and annotations.json."""
    return made_once("try_photos", lambda folder: people.write(folder, "val", 12))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_photo_without_labels(photos: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["contract", "check", *DEMO, "--images", str(photos / "images" / "000000.png")]) == 0
    out = capsys.readouterr().out
    assert "1 person in 1 image, without labels" in out and "page hrnet_demo-coco-256x192-try.html" in out
    page = (here / "hrnet_demo-coco-256x192-try.html").read_text()
    assert "no boxes: each photo is taken as one person" in page and "left wrist" in page


def test_labels_of_a_few_images(photos: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = ["--images", str(photos / "images"), "--annotations", str(photos / "annotations.json")]
    assert main(["contract", "check", *DEMO, *labels, "--limit", "3"]) == 0
    out = capsys.readouterr().out
    assert "in 3 images with labels: PCK@0.05 " in out
    assert "Not judged: 3 labelled images are too few" in out


@pytest.mark.slow  # the judgement's own tests are quicker
def test_a_wrong_contract_fails(photos: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command that a user types who was told that the model takes 0..255."""
    contract = replace(find("hrnet_demo").contract(), mean=(0.0,) * 3, std=(1 / 255,) * 3)
    Path("contract.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(contract.to_json()))))
    own = ["--arch", "hrnet_demo", "--weights", str(WEIGHTS), "--contract", "contract.yaml"]
    labels = ["--images", str(photos / "images"), "--annotations", str(photos / "annotations.json")]
    assert main(["contract", "check", *own, *labels, "--limit", "10", "--output", "page.html", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    (change,) = found["judgement"]["found"]
    assert change["kind"] == "pixels" and change["lines"][0] == "mean: [0.485, 0.456, 0.406]"
    assert found["judgement"]["mended"]["std"] == [0.229, 0.224, 0.225]
    assert found["page"] == "page.html" and "mean: [0.485, 0.456, 0.406]" in Path("page.html").read_text()


def test_a_bundle_is_what_it_was_built_from(
    narrow_bundle: Path, photos: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = ["--images", str(photos / "images" / "000001.png"), "--json"]
    assert main(["contract", "check", str(narrow_bundle), *photo]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["page"] == "narrow-coco-128x96-try.html" and Path(found["page"]).is_file()
    assert found["contract"]["width"] == 96 and np.isfinite(found["twins"]["gap"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["me.png", *DEMO], "photos go with --images me.png"),
        (["x.pose", *DEMO], "give either a bundle or a model"),
        ([*DEMO, "--boxes", "b.json", "--annotations", "a.json"], "--annotations have boxes of their own"),
        ([], "which model?"),
    ],
)
def test_refusals(
    arguments: list[str], message: str, photos: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["contract", "check", *arguments, "--images", str(photos / "images")]) == 2
    assert message in capsys.readouterr().err and not list(here.iterdir())


def test_build_shows_before_it_builds(photos: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = ["--try", str(photos / "images" / "000000.png")]
    assert main(["build", *DEMO, "--limit", "4", *photo, "--output", "x.pose", "--json"]) == 0
    read = capsys.readouterr()
    found = json.loads(read.out)["try"]
    assert found["page"] == "x-report/try.html" and Path(found["page"]).is_file()
    assert found["people"] == 1 and found["judgement"]["images"] == 4 and found["judgement"]["found"] == []
    assert read.err.index("page x-report/try.html") < read.err.index("gate: ")


def test_the_help_of_contract_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["contract", "--help"]) == 0
    assert re.search(r"posert contract check --help: Show what a\s+model sees", capsys.readouterr().out)
    assert main(["contract", "check", "--help"]) == 0
    assert "usage: posert contract check " in capsys.readouterr().out


def test_boxes_of_no_photo(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", *DEMO, "--try-boxes", "boxes.json"]) == 2
    assert "--try-boxes are of the people in the photos of --try PATH" in capsys.readouterr().err
