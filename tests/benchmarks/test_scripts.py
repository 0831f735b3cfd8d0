"""Every script of benchmarks/ runs as a file of the checkout and as a module of the package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import posert.benchmarks

FOLDER = Path(posert.benchmarks.__file__).parent
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")

# All in one process, which imports torch once; `python FILE` puts the folder of the file in front of sys.path.
AS_FILES = """
import runpy, sys
folder, *names = sys.argv[1:]
sys.path[0] = folder
for name in names:
    sys.argv = [name, "--help"]
    try:
        runpy.run_path(f"{folder}/{name}.py", run_name="__main__")
    except SystemExit as end:
        assert not end.code, f"{name} ended with {end.code}"
    else:
        raise AssertionError(f"{name} does nothing")
"""


def test_scripts_run_as_files() -> None:
    done = subprocess.run([sys.executable, "-c", AS_FILES, str(FOLDER), *SCRIPTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: ") == len(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_say_how_they_are_called(name: str) -> None:
    said = (FOLDER / f"{name}.py").read_text().split('"""')[1]
    assert f"python -m posert.benchmarks.{name}" in said or f"python benchmarks/{name}.py" in said
