"""The kernels on a CPU, for the tests of this folder."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="session")
def shim_module() -> ModuleType:
    """shim.py, which lies beside the tests and in no package."""
    spec = importlib.util.spec_from_file_location("posert_cuda_shim", Path(__file__).with_name("shim.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def shim(shim_module: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A `Shim` of this source."""
    if not shutil.which("g++"):
        pytest.skip("no g++ to compile kernels.cu for the CPU")
    library = tmp_path_factory.mktemp("shim") / "kernels.so"
    shim_module.build(library)
    return shim_module.Shim(ctypes.CDLL(str(library)))
