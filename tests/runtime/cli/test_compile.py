"""`posert compile` where its library may be missing: what is wrong with the arguments is told first."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from posert.runtime.cli.main import main


@pytest.fixture(autouse=True)
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "ampere"], "--target ampere: expected a compute capability such as sm89"),
        (["--batch", "foo"], "--batch foo: expected MIN:OPT:MAX"),
        (["--batch", "4:2:8"], "ascending"),
        (["--workspace", "much"], "512M or 2G"),
        ([], "needs the Python package 'tensorrt_rtx', which is not installed"),
    ],
)
def test_arguments_before_the_library(
    narrow_bundle: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["compile", str(narrow_bundle), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_bundle_before_the_library(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", str(tmp_path / "nosuch.pose")]) == 2
    assert "no such file" in capsys.readouterr().err
