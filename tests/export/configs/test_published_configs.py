"""Contracts of published configs against what the libraries themselves make of them (tests/goldens/configs)."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from posert.export.configs import Description, read_description
from posert.runtime.errors import ConfigError

GOLDENS = Path(__file__).parents[2] / "goldens" / "configs"
EXPECTED: dict[str, dict[str, Any]] = json.loads((GOLDENS / "expected.json").read_text())["files"]
RULES = {
    ("mmpose-1", "quarter"): "msra",
    ("mmpose-1", "dark"): "unbiased",
    ("mmpose-1", "udp"): "udp_heatmap",
    ("mmpose-1", "megvii"): "megvii",
    ("mmpose-1", "simcc"): "simcc",
    ("mmpose-0", "quarter"): "default",
    ("mmpose-0", "dark"): "unbiased",
    ("mmpose-0", "udp"): "udp",
    ("mmpose-0", "megvii"): "megvii",
    ("hrnet", "quarter"): "default",
}


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("configs")
    with zipfile.ZipFile(GOLDENS / "configs.zip") as archive:
        archive.extractall(folder)
    return folder


@pytest.mark.parametrize("name", [n for n, e in EXPECTED.items() if e["kind"] != "other"])
def test_the_contract_of_a_published_config(configs: Path, name: str) -> None:
    found, expected = read_description(configs / name), EXPECTED[name]
    contract = found.contract
    assert contract is not None
    given, decode = expected["input"], expected["decode"]
    assert (contract.width, contract.height, contract.udp) == (given["width"], given["height"], given["udp"])
    assert contract.padding == (given["padding"] or 1.25)
    assert contract.model_color == given["model_color"]
    assert contract.mean == pytest.approx(given.get("mean") or [m / 255 for m in given["mean_255"]], abs=1e-12)
    assert contract.std == pytest.approx(given.get("std") or [s / 255 for s in given["std_255"]], abs=1e-12)
    assert contract.decode == RULES[decode["dialect"], decode["rule"]]
    size = expected.get("heatmap") or {"width": expected["simcc"]["x"], "height": expected["simcc"]["y"]}
    assert (contract.heatmap_width, contract.heatmap_height) == (size["width"], size["height"])
    if expected["kind"] == "heatmap":
        assert contract.map_udp == (decode["spans"] == "size - 1")
        assert contract.flip_shift == expected["flip"]["shift"]
        assert contract.kernel == decode.get("kernel", 11)
    assert (found.kind, found.flip_test) == (expected["kind"], expected["flip"]["test"])
    assert found.channels == expected.get("output_channels", found.channels)
    check_joints(found, expected["joints"])


def check_joints(found: Description, joints: dict[str, Any]) -> None:
    contract = found.contract
    assert contract is not None
    out = {old: new for new, old in enumerate(joints.get("output_keypoint_indices") or range(len(contract.keypoints)))}
    pairs = {frozenset((out[a], out[b])) for a, b in joints["flip_pairs"] if a in out and b in out}
    assert {frozenset(pair) for pair in contract.flip_pairs} == pairs
    if "keypoints" not in joints:  # of the repositories the golden has the count
        assert (len(contract.keypoints), contract.dataset) == (joints["count"], joints["dataset"])
        return
    assert contract.keypoints == tuple(joints["keypoints"][i] for i in out)
    assert contract.skeleton == tuple((out[a], out[b]) for a, b in joints["skeleton"] if a in out and b in out)
    assert contract.sigmas == tuple(joints["sigmas"][i] for i in out if joints["sigmas"])


@pytest.mark.parametrize("name", [n for n, e in EXPECTED.items() if e["kind"] == "other"])
def test_another_kind_of_head_is_refused_by_name(configs: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=EXPECTED[name]["head"]) as caught:
        read_description(configs / name)
    assert "--contract" in str(caught.value)


def test_three_forms_of_one_config(configs: Path) -> None:
    """By hand, as a training dumps it, and in the new style."""
    names = ("config.py", "config_dumped.py", "config_newstyle.py")
    by_hand, dumped, new = (read_description(configs / "three_forms" / name) for name in names)
    assert by_hand.contract == dumped.contract == new.contract
    assert (
        by_hand.network["backbone"]["extra"] == dumped.network["backbone"]["extra"] == new.network["backbone"]["extra"]
    )


def test_every_field_is_in_the_goldens() -> None:
    """The selection is of use as long as it differs in what a contract may differ in."""
    decodes = {(e["decode"]["dialect"], e["decode"]["rule"]) for e in EXPECTED.values() if "decode" in e}
    assert decodes == set(RULES)
    assert len({e["input"]["padding"] for e in EXPECTED.values() if "input" in e}) >= 5
