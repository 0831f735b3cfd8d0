"""The examples of docs/results.md, as a reader would copy them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from posert.runtime.results import formats

TEXT = (Path(__file__).parents[3] / "docs" / "results.md").read_text(encoding="utf-8")


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, capsys: Any) -> None:
    for library in ("pyarrow", "duckdb", "pandas", "polars", "supervision"):
        pytest.importorskip(library)
    make.write("parquet", tmp_path / "out" / "walk.parquet", make.VIDEO)
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(examples) == 2
    people = make.people(3, make.VIDEO.contract.keypoints)
    for code in examples:
        exec(compile(code, "docs/results.md", "exec"), {"people": people})
    assert "films/walk.mp4 0 (6, 17, 2)" in capsys.readouterr().out


def test_every_format_is_listed() -> None:
    assert set(re.findall(r"^\| `(\.[\w.]+)` \|", TEXT, re.MULTILINE)) == {one.ending for one in formats()}
