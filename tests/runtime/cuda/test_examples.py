"""examples/08_gpu_frames on the stand-in GPU, with stand-ins for the arrays of PyTorch, CuPy and pycuda."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from posert.export.demo.people import render
from posert.runtime.cuda import library

SCRIPTS = sorted((Path(__file__).parents[3] / "examples" / "08_gpu_frames").glob("*.py"))
STAND_IN = Path(__file__).with_name("stand_in")


@pytest.fixture
def folder(tmp_path: Path, narrow_bundle: Path) -> Path:
    """What the scripts read."""
    bundle, image = tmp_path / "out/demo/hrnet_demo.pose", tmp_path / "out/08/people/images/000000.png"
    for path in (bundle, image):
        path.parent.mkdir(parents=True)
    bundle.symlink_to(narrow_bundle)
    assert cv2.imwrite(str(image), render("val", 0)[0])
    return tmp_path


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_it_runs_on_the_stand_in(script: Path, folder: Path, fake_library: Path) -> None:
    assert len(SCRIPTS) == 3
    variables = {
        **os.environ,
        **{library.LIBRARY: str(fake_library), "POSERT_CACHE": str(folder / "cache")},
        "PYTHONPATH": os.pathsep.join([str(STAND_IN), os.environ.get("PYTHONPATH", "")]),
        **({"STAND_IN_TORCH": "1"} if script.stem == "torch_frames" else {}),
    }
    done = subprocess.run([sys.executable, script], cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    where, equal = done.stdout.splitlines()
    assert where.startswith("tensorrt (1, 17, ") and equal.endswith(": True"), done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_without_a_gpu_it_says_so(script: Path, folder: Path) -> None:
    if not library.missing():
        pytest.skip("there is a GPU")
    done = subprocess.run([sys.executable, script], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("no GPU: ") and len(done.stderr.splitlines()) == 1
