"""The kernels on a CPU, for the tests of this folder."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from posert.runtime.cuda import library

FAILS, REFUSED_IMAGES, CAPABILITY, FOREIGN = range(4)


@pytest.fixture(scope="session")
def shim_module() -> ModuleType:
    """shim.py, which lies beside the tests and in no package."""
    return beside("shim")


def beside(name: str) -> ModuleType:
    """A module of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(f"posert_cuda_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session", params=["cpu"] if library.missing() else ["cpu", "gpu"])
def shim(request: pytest.FixtureRequest) -> Any:
    """The kernels on the CPU, and where there is a GPU on that too."""
    if request.param == "gpu":
        return request.getfixturevalue("shim_module").Gpu()
    return request.getfixturevalue("cpu_shim")


@pytest.fixture(scope="session")
def cpu_shim(shim_module: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A `Shim` of this source."""
    if not shutil.which("g++"):
        pytest.skip("no g++ to compile kernels.cu for the CPU")
    library = tmp_path_factory.mktemp("shim") / "kernels.so"
    shim_module.build(library)
    return shim_module.Shim(ctypes.CDLL(str(library)))


@pytest.fixture(scope="session")
def fake_library(shim_module: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CUDA driver whose GPU is the CPU, see fake_cuda.cpp."""
    if not shutil.which("g++"):
        pytest.skip("no g++ to compile kernels.cu for the CPU")
    library = tmp_path_factory.mktemp("fake") / "libcuda.so"
    shim_module.build(library, source="fake_cuda.cpp")
    return library


@pytest.fixture
def fake_gpu(fake_library: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ctypes.CDLL]:
    """That driver in place of the machine's; its switches are `fake_set`."""
    monkeypatch.setenv(library.LIBRARY, str(fake_library))
    library.symbols.cache_clear()
    fake = ctypes.CDLL(str(fake_library))
    fake.fake_allocated.restype = ctypes.c_longlong
    fake.fake_set(CAPABILITY, 86)
    yield fake
    for switch in (FAILS, REFUSED_IMAGES, FOREIGN):
        fake.fake_set(switch, 0)
    library.symbols.cache_clear()


@pytest.fixture
def fake_tensorrt(fake_gpu: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Any:
    """TensorRT on that GPU, see fake_tensorrt.py."""
    module = beside("fake_tensorrt").module(fake_gpu)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    return module
