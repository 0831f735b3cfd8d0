"""Registries by folder: files are found, names are unique, unknown names get a suggestion."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from posert.runtime.errors import PosertError
from posert.runtime.registry import load_module, merge_tables, module_names, unknown_name


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    package = tmp_path / "registry_under_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield package
    for name in [n for n in sys.modules if n.split(".")[0] == package.name]:
        del sys.modules[name]


def test_files_are_found_without_being_imported(folder: Path) -> None:
    (folder / "b.py").write_text("raise RuntimeError('imported')")
    (folder / "a.py").write_text("X = {'one': 1}")
    (folder / "_shared.py").write_text("X = {'hidden': 0}")
    (folder / "notes.txt").write_text("")
    assert module_names(folder.name) == ["a", "b"]
    assert load_module(folder.name, "a").X == {"one": 1}


def test_tables_are_joined(folder: Path) -> None:
    (folder / "a.py").write_text("X = {'one': 1}")
    (folder / "b.py").write_text("X = {'two': 2}")
    (folder / "c.py").write_text("Y = 3")
    assert merge_tables(folder.name, "X") == {"one": 1, "two": 2}


def test_a_name_given_twice_raises_and_names_both_files(folder: Path) -> None:
    (folder / "a.py").write_text("X = {'one': 1}")
    (folder / "b.py").write_text("X = {'one': 1}")
    with pytest.raises(PosertError, match=r"'one' is given by a\.py and again by b\.py"):
        merge_tables(folder.name, "X")


def test_unknown_names() -> None:
    known = ["hrnet_w32", "hrnet_w48", "res50"]
    text = unknown_name("architecture", "hrnet_w23", known)
    assert text.startswith("unknown architecture 'hrnet_w23'. Did you mean hrnet_w32")
    assert text.endswith("Known: hrnet_w32, hrnet_w48, res50")
    assert "Did you mean" not in unknown_name("architecture", "zzz", known)


def test_what_is_not_near_is_not_offered() -> None:
    assert "Did you mean" not in unknown_name("dataset", "foo", ["aic", "coco", "mpii"])
    assert "Did you mean onnxruntime?" in unknown_name("backend", "onnx", ["onnxruntime", "openvino"])
    assert "Did you mean" not in unknown_name("backend", "", ["onnxruntime", "openvino"])
