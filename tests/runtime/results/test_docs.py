"""docs/results.md lists every format. Its examples are run by tests/docs/test_pages.py."""

from __future__ import annotations

import re
from pathlib import Path

from posert.runtime.results import formats

TEXT = (Path(__file__).parents[3] / "docs" / "results.md").read_text(encoding="utf-8")


def test_every_format_is_listed() -> None:
    assert set(re.findall(r"^\| `(\.[\w.]+)` \|", TEXT, re.MULTILINE)) == {one.ending for one in formats()}
