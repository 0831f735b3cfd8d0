"""`posert models`: the catalog for people and for programs."""

from __future__ import annotations

import json
import re

import pytest

from posert.export import catalog
from posert.export.archs import architectures
from posert.runtime.cli.main import main


def test_all_rows_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [r["id"] for r in found] == list(catalog.rows())
    first = found[0]
    row = catalog.rows()[first["id"]]
    assert (first["arch"], first["height"], first["width"], first["metrics"]) == (
        row.arch,
        row.height,
        row.width,
        dict(row.metrics),
    )
    assert all(r["buildable"] == (r["arch"] in architectures()) for r in found)


def test_a_pattern_narrows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "hrnet_w48", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found and all("hrnet_w48" in r["id"] or "hrnet_w48" in r["arch"] for r in found)


def test_in_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["models", "hrnet_w32"]) == 0
    out = capsys.readouterr().out
    row = catalog.find("hrnet_w32")
    line = next(line for line in out.splitlines() if row.id in line)
    assert "256x192" in line and f"{row.metrics['AP']:.3f}" in line


def test_figures_are_fractions_of_three_digits(capsys: pytest.CaptureFixture[str]) -> None:
    """Also those that were published as percents (MPII's), and those that end with a zero."""
    assert main(["models"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["hr_pose_resnet_152_mpii_256x256"].endswith("  Head 0.970, Shoulder 0.959")
    figures = [figure for id in catalog.rows() for figure in re.findall(r"\w \d+\.(\d+)(?=,|$)", lines[id])]
    assert len(figures) > len(catalog.rows()) and all(len(figure) == 3 for figure in figures)


def test_networks_without_stages_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "hrnet_w32", "--per-stage"]) == 2
    seen = capsys.readouterr()
    assert not seen.out and "none has a network of several stages" in seen.err


def test_nothing_matches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "hrnet_w23", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)
    assert error["kind"] == "CatalogError" and "hrnet_w32" in error["error"]
