"""A contract in a file of its own: contract.yaml, contract.json, a bundle."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from posert.runtime.bundle.archive import Bundle
from posert.runtime.bundle.contract import Contract
from posert.runtime.errors import BundleError, ContractError

TEXT = """\
# three joints of a mouse
dataset: mouse
keypoints: [nose, left_paw, right_paw]
flip_pairs: [[1, 2]]
skeleton: [[0, 1], [0, 2]]
sigmas: []
width: 192
height: 256
heatmap_width: 48
heatmap_height: 64
padding: 1.5
decode: msra
flip_shift: false
"""
EXPECTED = Contract(
    dataset="mouse",
    keypoints=("nose", "left_paw", "right_paw"),
    flip_pairs=((1, 2),),
    skeleton=((0, 1), (0, 2)),
    sigmas=(),
    width=192,
    height=256,
    heatmap_width=48,
    heatmap_height=64,
    padding=1.5,
    decode="msra",
    flip_shift=False,
)


def write(folder: Path, text: str, name: str = "contract.yaml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_yaml(tmp_path: Path) -> None:
    assert Contract.from_file(write(tmp_path, TEXT)) == EXPECTED
    assert Contract.from_file(str(write(tmp_path, TEXT, "of_another_name.txt"))) == EXPECTED


@pytest.mark.parametrize("wrapped", [False, True], ids=["fields", "what posert contract --json prints"])
def test_json(tmp_path: Path, wrapped: bool) -> None:
    values = {"source": "x", "contract": EXPECTED.to_json()} if wrapped else EXPECTED.to_json()
    for indent in (None, 2):
        assert Contract.from_file(write(tmp_path, json.dumps(values, indent=indent), "contract.json")) == EXPECTED


def test_a_bundle(narrow_bundle: Path) -> None:
    with Bundle(narrow_bundle) as bundle:
        assert Contract.from_file(narrow_bundle) == bundle.contract


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TEXT + "heatmap_widht: 3\n", r"contract\.yaml: .*unknown heatmap_widht \(did you mean heatmap_width\?\)"),
        (TEXT.replace("width: 192\n", "", 1), "lacks width"),
        (TEXT + "zzz: 1\n", "unknown zzz. Its fields: dataset, keypoints"),
        (TEXT.replace("1.5", "-1"), "padding: 0.1 to 10"),
        (TEXT.replace("192", "'192'"), "contract.width is '192', expected a whole number"),
        (TEXT.replace("[[1, 2]]", "[[1, 3]]"), "pairs of joint indices"),
        (TEXT.replace("[[1, 2]]", "[[1, [2]]]"), "flip_pairs"),
        (TEXT.replace("[]", "[0.1]"), "sigmas: one positive number per joint"),
        ("- 1", "list, expected the fields of a contract"),
        ("", "NoneType, expected the fields"),
        ("a: [1\nb: 2", r"contract\.yaml:2: not YAML"),
        ("a: !!python/name:os.system x", "not YAML"),
        ("a: &a [*a]", "an alias of what holds it"),
        ("a: " + "[" * 100, "too deep"),
        ("a: " + "x" * 20_000, "20000 characters"),
        ("a: 1\n" * 300_000, "at most"),
        ("a\0b", "no text"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        Contract.from_file(write(tmp_path, text))


@pytest.mark.parametrize("depth", [9, 12])
def test_aliases_in_aliases(tmp_path: Path, depth: int) -> None:
    text = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, depth + 1))
    with pytest.raises(ContractError, match="too large"):
        Contract.from_file(write(tmp_path, text))


def test_an_alias_or_two(tmp_path: Path) -> None:
    text = TEXT.replace("mean", "") + "mean: &three [0.5, 0.5, 0.5]\nstd: *three\n"
    assert Contract.from_file(write(tmp_path, text)).std == (0.5, 0.5, 0.5)


def test_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("missing.yaml", ".", "pipe"):
        with pytest.raises(ContractError):
            Contract.from_file(tmp_path / name)


def test_a_damaged_bundle(tmp_path: Path) -> None:
    (tmp_path / "x.pose").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(BundleError):
        Contract.from_file(tmp_path / "x.pose")


def test_without_pyyaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ContractError, match=r'pip install "posert\[export\]"'):
        Contract.from_file(write(tmp_path, TEXT))
