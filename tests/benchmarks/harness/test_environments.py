import base64
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from posert.benchmarks.harness import environments
from posert.benchmarks.harness.environments import ToolError, call, environment

SOURCE = """
import os, time

def double(x):
    return {"twice": 2 * x}

def hold(mb):
    data = bytearray(os.urandom(1)) * (mb * 1000000)
    time.sleep(0.5)
    return len(data)

def fail():
    raise ValueError("the tool has no such option")

def die():
    os.abort()

def sigmas():
    from posert.runtime.datasets import dataset
    return len(dataset("coco").sigmas)
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
    return environment("tiny", requirements, root)


def test_a_tool_lives_in_its_environment_only(python: Path):
    assert call(python, "tinytool:double", {"x": 21}).value == {"twice": 42}
    with pytest.raises(ToolError, match="No module named 'tinytool'"):
        call(sys.executable, "tinytool:double", {"x": 21})


def test_a_finished_environment_is_taken_and_another_one_replaces_it(
    python: Path, root: Path, requirements: list[str], monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setattr(environments.venv, "create", None)  # it would be called
        assert environment("tiny", requirements, root) == python
    made = []

    def create(folder: Path, with_pip: bool) -> None:
        made.append(folder)
        (folder / "bin").mkdir()
        (folder / "bin" / "python").touch()

    monkeypatch.setattr(environments.venv, "create", create)
    monkeypatch.setattr(environments.subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 0))
    first, second = (environment("other", [f"tinytool=={v}"], root) for v in ("1.0", "1.1"))
    assert len(made) == 2 and first != second and second.exists() and not first.exists()
    assert [p.name for p in (root / "other").iterdir()] == [second.parents[1].name]


def test_what_pip_says_when_it_cannot_install_is_told_and_nothing_stays(root: Path, monkeypatch: pytest.MonkeyPatch):
    # The real pip of this environment, without the seconds that a new one takes.
    def create(folder: Path, with_pip: bool) -> None:
        (folder / "bin").mkdir()
        (folder / "bin" / "python").symlink_to(sys.executable)

    monkeypatch.setattr(environments.venv, "create", create)
    with pytest.raises(
        ToolError, match=r"nothing cannot be installed: pip install --no-index tinytool==9\n(.|\n)*No match"
    ):
        environment("nothing", ["--no-index", "tinytool==9"], root)
    assert not list((root / "nothing").iterdir())


def test_posert_can_be_imported_there(python: Path):
    # As far as what it imports is there: this environment has no numpy.
    with pytest.raises(ToolError, match=r"runtime/__init__.py(.|\n)*No module named 'numpy'"):
        call(python, "tinytool:sigmas", {})
    near = call(
        sys.executable, "posert.runtime.registry:unknown_name", {"kind": "tool", "name": "nn", "known": ["nncf"]}
    )
    assert "nncf" in near.value


def test_peak_memory_and_seconds_are_those_of_the_function(python: Path):
    small, large = (call(python, "tinytool:hold", {"mb": mb}) for mb in (1, 200))
    assert large.value == 200_000_000 and large.seconds > 0.5
    assert 190 < large.peak_mb - small.peak_mb < 210  # the interpreter itself differs by a few MB at most


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_a_process_that_takes_too_much_memory_is_ended(python: Path):
    with pytest.raises(ToolError, match=r"tinytool:hold was ended at 0\.\d GB of memory; 0\.1 GB were allowed"):
        call(python, "tinytool:hold", {"mb": 400}, memory_gb=0.1)
    assert call(python, "tinytool:hold", {"mb": 1}, memory_gb=0.1).value == 1_000_000


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("fail", "tinytool:fail failed with status 1\n(.|\n)*ValueError: the tool has no such option"),
        ("die", "tinytool:die was ended by SIGABRT"),
        ("absent", "has no attribute 'absent'"),
    ],
)
def test_a_function_that_fails_is_told_with_its_output(function: str, message: str, python: Path):
    with pytest.raises(ToolError, match=message):
        call(python, f"tinytool:{function}", {})
