"""The examples of docs/annotate.md, as a reader would copy them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
BLOCKS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "annotate.md").read_text(), re.MULTILINE | re.DOTALL)


def test_examples_run(
    annotate: Any, narrow_bundle: Path, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    reading, working = BLOCKS
    (sources / "images" / "003.png").unlink()
    assert annotate(sources, output=tmp_path / "results") == 0
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    exec(compile(reading, "docs/annotate.md", "exec"), {})
    assert "walk.mp4" in capsys.readouterr().out
    shutil.rmtree("results")
    shutil.copy(narrow_bundle, "hrnet_demo.pose")
    shutil.copytree(sources / "films", "films")
    exec(compile(working, "docs/annotate.md", "exec"), {})
    assert capsys.readouterr().out.splitlines()[-1] == "7 {}"
