"""Imports are light: the runtime loads numpy and OpenCV when they are needed, and nothing of the export side."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from posert.runtime.cli.command import command_modules

HEAVY = ("torch", "onnx", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "cv2", "rich", "pycocotools", "yaml")


def loaded_after(code: str) -> set[str]:
    """Top-level modules in a fresh process."""
    script = f"{code}\nimport sys; print(' '.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_import_of_the_runtime() -> None:
    assert not loaded_after("import posert.runtime") & {*HEAVY, "numpy"}
    found = loaded_after("from posert.runtime import PoseEstimator, Keypoints")
    assert {"numpy", "cv2"} <= found and not found & {*HEAVY} - {"cv2"}


def test_help_needs_the_standard_library_only() -> None:
    code = "import sys; from posert.runtime.cli.main import main\nsys.stdout = None; assert main(['--help']) == 0\n"
    assert not loaded_after(code + "sys.stdout = sys.__stdout__") & {*HEAVY, "numpy"}


@pytest.mark.parametrize("name", command_modules())
def test_a_command_imports_its_own_file_only(name: str) -> None:
    code = (
        f"from posert.runtime.cli.command import PACKAGES, load_command; load_command({name!r})\n"
        "import sys\nfiles = [m for m in sys.modules if m.startswith(tuple(f'{p}.' for p in PACKAGES))]\n"
        f"assert [m.split('.')[-1] for m in files if '._' not in m] == [{name!r}], files"
    )
    assert not loaded_after(code) & {*HEAVY, "numpy"}


def test_an_estimator_loads_its_backend_only(narrow_bundle: Path) -> None:
    """Without torch, onnx and the other backends, as on the device; the frame goes all the way."""
    pytest.importorskip("onnxruntime")
    others = "'torch', 'onnx', 'openvino', 'rich', 'yaml', 'pycocotools', 'tensorrt', 'posert.export', 'posert.calib'"
    code = (
        f"import sys\nfor m in ({others}): sys.modules[m] = None\n"
        "import numpy as np\nfrom posert.runtime import PoseEstimator\n"
        f"pose = PoseEstimator({str(narrow_bundle)!r}, threads=1)\n"
        "assert pose.selection.backend == 'onnxruntime', pose.selection\n"
        "assert pose(np.zeros((60, 50, 3), np.uint8), [[0, 0, 20, 40]]).xy.shape == (1, 17, 2)"
    )
    assert {"cv2", "onnxruntime"} <= loaded_after(code)
