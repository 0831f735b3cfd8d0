"""Versions and machine that figures and bundles are recorded with."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .machine import cpu


def versions() -> dict[str, str]:
    """Versions of the tools that shape a bundle."""
    found = {"python": platform.python_version()}
    for package in ("posert", "torch", "onnx", "onnxruntime", "openvino", "numpy", "opencv-python-headless"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """The processor on which figures were measured."""
    here = cpu()
    return {"cpu": here.name, "cores": here.cores}
