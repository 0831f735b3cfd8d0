"""The example of CONTRIBUTING.md as a new architecture: as one more file of posert, and as a package of somebody else.

Each time, in a new process: the registries' tests pass, `posert models` lists it and `posert build` builds it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from posert.runtime.bundle.archive import Bundle

ROOT = Path(__file__).parents[2]
TESTS = ("tests/test_registries.py", "tests/export/test_catalog.py", "tests/export/commands/test_models.py")

SCRIPT = """
import sys
import pytest
from posert.runtime.cli.main import main
from posert.export import archs
print("posert of", archs.__file__)
assert main(["models", "toy"]) == 0
assert main(["build", "--model", "toy_coco_64x48", "--weights", "random", "--limit", "1", "--output", sys.argv[1]]) == 0
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-k", "not torch_is_not_installed", *sys.argv[2:]]))
"""


def example() -> str:
    """The code of CONTRIBUTING.md, word for word."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    (code,) = (block for block in blocks if "ARCHITECTURES" in block)
    return str(code)


def run(checkout: Path, folder: Path, path: Path) -> str:
    """Standard output of the script, with a checkout's tests and a folder in front of the installed packages."""
    bundle = folder / "toy.pose"
    tests = [str(checkout / test) for test in TESTS]
    environment = {
        **os.environ,
        "PYTHONPATH": str(path),
        "POSERT_CACHE": str(folder / "cache"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            SCRIPT,
            str(bundle),
            *tests,
            "--rootdir",
            str(checkout),
            "-c",
            str(checkout / "setup.cfg"),
        ],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^toy_coco_64x48 +toy +coco +64x48 .*M +\d+\.\d\d  -$", done.stdout, re.MULTILINE), done.stdout
    with Bundle(bundle) as built:
        assert built.manifest["model"]["arch"] == "toy"
        assert (built.contract.heatmap_width, built.contract.heatmap_height) == (12, 16)
    return done.stdout


def test_as_a_file_of_the_folder(tmp_path: Path) -> None:
    checkout = tmp_path / "path" / "posert"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "build", "out", "dist", "*.egg-info", "goldens")
    shutil.copytree(ROOT, checkout, ignore=ignored, symlinks=True)
    shutil.copytree(ROOT / "export" / "build", checkout / "export" / "build", ignore=ignored)
    (checkout / "tests" / "goldens").symlink_to(ROOT / "tests" / "goldens")
    (checkout / "export" / "archs" / "toy.py").write_text(example())
    assert f"posert of {checkout}" in run(checkout, tmp_path, tmp_path / "path")


def test_as_an_installed_package(tmp_path: Path) -> None:
    site = tmp_path / "site"
    described = site / "toy_pose-1.0.dist-info"
    described.mkdir(parents=True)
    (site / "toy_pose.py").write_text(example())
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-pose\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text("[posert.archs]\ntoy = toy_pose:ARCHITECTURES\n")
    run(ROOT, tmp_path, site)
