"""The runtime is light: importing it loads numpy and nothing of the export side."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "onnx", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "cv2", "rich", "pycocotools", "yaml")


def loaded_after(code: str) -> set[str]:
    """Top-level modules in a fresh process."""
    script = f"{code}\nimport sys; print(' '.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_runtime_is_imported_when_it_is_used() -> None:
    assert not loaded_after("import posert.runtime") & {*HEAVY, "numpy"}
    found = loaded_after("from posert.runtime import PoseEstimator, Keypoints")
    assert "numpy" in found and found & set(HEAVY) == {"cv2"}


def test_the_command_line_itself() -> None:
    assert not loaded_after("import posert.runtime.cli.main") & set(HEAVY)


def test_an_estimator_loads_its_backend_only(narrow_bundle: Path) -> None:
    """Without torch, onnx and the other backends, as on the device; the frame goes all the way."""
    pytest.importorskip("onnxruntime")
    others = "'torch', 'onnx', 'openvino', 'rich', 'yaml', 'pycocotools', 'tensorrt', 'posert.export', 'posert.calib'"
    code = (
        f"import sys\nfor m in ({others}): sys.modules[m] = None\n"
        "import numpy as np\nfrom posert.runtime import PoseEstimator\n"
        f"pose = PoseEstimator({str(narrow_bundle)!r}, threads=1)\n"
        "assert pose.choice.backend == 'onnxruntime', pose.choice\n"
        "assert pose(np.zeros((60, 50, 3), np.uint8), [[0, 0, 20, 40]]).xy.shape == (1, 17, 2)"
    )
    assert {"cv2", "onnxruntime"} <= loaded_after(code)
