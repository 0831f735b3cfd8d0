"""Functions in processes of their own, here and in an environment that pip made."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from posert.benchmarks import child as child_module
from posert.benchmarks.child import ToolError, call, environment, start

SOURCE = """
import os, time
from posert.benchmarks.child import requests

def double(x):
    print("libraries write to standard output")
    return {"twice": 2 * x}

def hold(mb):
    data = bytearray(os.urandom(1)) * (mb * 1000000)
    time.sleep(0.5)
    return len(data)

def fail():
    raise ValueError("the tool has no such option")

def die():
    os.abort()

def count(first):
    yield {"ready": True}
    for request in requests():
        first += request["more"]
        yield {"sum": first}

def suggestion():
    from posert.runtime.registry import unknown_name
    return unknown_name("tool", "nn", ["nncf"])
"""


def wheel(folder: Path) -> Path:
    """A package that pip can install without a network."""
    files = {
        "tinytool.py": SOURCE,
        "tinytool-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tinytool\nVersion: 1.0\n",
        "tinytool-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = []
    for name, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(text)}")
    files["tinytool-1.0.dist-info/RECORD"] = "\n".join([*lines, "tinytool-1.0.dist-info/RECORD,,", ""])
    path = folder / "tinytool-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("environments")


@pytest.fixture(scope="module")
def requirements(root: Path) -> list[str]:
    return ["--no-index", str(wheel(root))]


@pytest.fixture(scope="module")
def python(root: Path, requirements: list[str]) -> Path:
    """Of an environment that holds the tool and nothing else, not even numpy or posert."""
    return environment("tiny", requirements, root)


def test_a_tool_is_in_its_environment_only(python: Path):
    assert call(python, "tinytool:double", {"x": 21}).value == {"twice": 42}
    with pytest.raises(ToolError, match="No module named 'tinytool'"):
        call(sys.executable, "tinytool:double", {"x": 21})


def test_posert_can_be_imported_there(python: Path):
    assert "nncf" in call(python, "tinytool:suggestion", {}).value


def test_a_generator_answers_request_after_request(python: Path):
    child = start(python, "tinytool:count")
    try:
        assert child.ask(first=1) == {"ready": True}
        assert [child.ask(more=n) for n in (1, 5)] == [{"sum": 2}, {"sum": 7}]
    finally:
        child.close()


def test_an_environment_is_made_once_and_again_for_other_pins(
    python: Path, root: Path, requirements: list[str], monkeypatch: pytest.MonkeyPatch
):
    made: list[Path] = []

    def create(folder: Path, clear: bool, with_pip: bool) -> None:
        made.append(folder)
        folder.mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(child_module.venv, "create", create)
    monkeypatch.setattr(child_module.subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 0))
    assert environment("tiny", requirements, root) == python and not made
    for pins in (["tool==1.0"], ["tool==1.0"], ["tool==1.1"]):
        environment("other", pins, root)
    assert len(made) == 2


def test_what_pip_says_is_told_and_the_next_call_tries_again(root: Path, monkeypatch: pytest.MonkeyPatch):
    # The real pip of this environment, without the seconds that a new one takes.
    def create(folder: Path, clear: bool, with_pip: bool) -> None:
        (folder / "bin").mkdir(parents=True, exist_ok=True)
        (folder / "bin" / "python").unlink(missing_ok=True)
        (folder / "bin" / "python").symlink_to(sys.executable)

    monkeypatch.setattr(child_module.venv, "create", create)
    for _ in range(2):
        with pytest.raises(
            ToolError, match=r"nothing cannot be installed: pip install --no-index tinytool==9\n(.|\n)*No match"
        ):
            environment("nothing", ["--no-index", "tinytool==9"], root)


def test_peak_memory_and_seconds_are_those_of_the_function(python: Path):
    small, large = (call(python, "tinytool:hold", {"mb": mb}) for mb in (1, 200))
    assert large.value == 200_000_000 and large.seconds > 0.5
    assert 190 < large.peak_mb - small.peak_mb < 210  # the interpreter itself differs by a few MB at most


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("fail", "tinytool:fail ended with status 1: ValueError: the tool has no such option\nTraceback"),
        ("die", "tinytool:die was ended by SIGABRT"),
        ("absent", "has no attribute 'absent'"),
    ],
)
def test_a_function_that_fails_is_told_with_its_output(function: str, message: str, python: Path):
    with pytest.raises(ToolError, match=message):
        call(python, f"tinytool:{function}", {})


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_a_process_that_takes_too_much_memory_is_ended(python: Path):
    with pytest.raises(ToolError, match=r"tinytool:hold was ended at 0\.\d GB of memory; the limit is 0\.1 GB"):
        call(python, "tinytool:hold", {"mb": 400}, memory_gb=0.1)
