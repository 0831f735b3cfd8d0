"""Every name of TensorRT that the code uses is in every release from 8.6 to 11, as far as that shows without a GPU.

The bindings of real releases are imported against empty libraries that are made here, so that their classes can be
listed. The wheels are about 1 MB each; with the folder of them in POSERT_TENSORRT_WHEELS the tests run:

    for v in 10.0.1 10.3.0 10.8.0.43 10.16.1.11; do pip download --no-deps -d wheels tensorrt-cu12-bindings==$v; done
    pip download --no-deps -d wheels tensorrt-cu13-bindings==11.4.0.106
    pip download --no-deps -d wheels tensorrt-bindings==8.6.1
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from posert.runtime import backends

FOLDER = Path(backends.__file__).parent
WHEELS = "POSERT_TENSORRT_WHEELS"
# The library's class behind each variable of the code; `trt` and `_trt` are the module.
CLASSES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "tensor": "ITensor",
    "layer": "ILayer",
    "flags": "NetworkDefinitionCreationFlag",
    "context": "IExecutionContext",
    "strategies": "ExecutionContextAllocationStrategy",
    "runtime_config": "IRuntimeConfig",
    "_compiled_kernels": "IRuntimeCache",
    "_engine": "ICudaEngine",
    "_runtime": "Runtime",
}
RTX = "tensorrt_rtx"
# Names that the code asks for before it uses them, or uses in a branch for one release: which releases lack them.
GUARDED = {
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED": lambda v: v == RTX or v[0] == 8,
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH": lambda v: v == RTX or v[0] >= 11,
    "PreviewFeature.PROFILE_SHARING_0806": lambda v: v == RTX or v[0] >= 11,
    "IProgressMonitor": lambda v: v != RTX and v[0] == 8,
    "IBuilderConfig.progress_monitor": lambda v: v != RTX and v[0] == 8,
    "ExecutionContextAllocationStrategy": lambda v: v != RTX and v[0] == 8,
    "ExecutionContextAllocationStrategy.USER_MANAGED": lambda v: v != RTX and v[0] == 8,
    "ICudaEngine.create_runtime_config": lambda v: v != RTX and v < (10, 9),
    "IRuntimeConfig.set_execution_context_allocation_strategy": lambda v: v != RTX and v < (10, 9),
    "IExecutionContext.set_device_memory": lambda v: v != RTX and v < (10, 1),
    "ICudaEngine.device_memory_size_v2": lambda v: v != RTX and v < (10, 1),
    "ICudaEngine.device_memory_size": lambda v: v == RTX or v[0] >= 11,
    # TensorRT-RTX only
    "IRuntimeConfig.create_runtime_cache": lambda v: v != RTX,
    "IRuntimeConfig.set_runtime_cache": lambda v: v != RTX,
    "IRuntimeCache.deserialize": lambda v: v != RTX,
    "IRuntimeCache.serialize": lambda v: v != RTX,
    "ComputeCapability": lambda v: v != RTX,
    "BuilderFlag.REQUIRE_USER_ALLOCATION": lambda v: v != RTX,
    "IBuilderConfig.num_compute_capabilities": lambda v: v != RTX,
    "IBuilderConfig.set_compute_capability": lambda v: v != RTX,
    "DynamicShapesKernelSpecializationStrategy": lambda v: v != RTX,
    "DynamicShapesKernelSpecializationStrategy.EAGER": lambda v: v != RTX,
    "IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy": lambda v: v != RTX,
}


def used_names() -> set[str]:
    """`Builder.create_network`, `ILogger.Severity.ERROR`, ...: what _trt.py and _trt_session.py use."""
    names = set()
    for file in ("_trt.py", "_trt_session.py"):
        for node in ast.walk(ast.parse((FOLDER / file).read_text())):
            if isinstance(node, ast.Attribute):
                dotted = ast.unparse(node)
                match = re.fullmatch(r"(?:self\.)?(\w+)\.([\w.]+)", dotted)
                if match and match[1] in ("trt", "_trt"):
                    names.add(match[2].split(".__")[0])  # ITEMS.__members__ is Python's
                elif match and match[1] in CLASSES:
                    names.add(f"{CLASSES[match[1]]}.{match[2].split('.')[0]}")
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("hasattr", "getattr"):
                owner, name = node.args[0], node.args[1]
                if isinstance(name, ast.Constant) and isinstance(owner, ast.Name | ast.Attribute):
                    owned = ast.unparse(owner).removeprefix("self.")
                    cls = "" if owned in ("trt", "_trt") else CLASSES.get(owned.split(".")[-1])
                    if cls is not None:
                        names.add(f"{cls}.{name.value}".lstrip("."))
    return {name for name in names if not name.startswith("__")}


LISTING = """
import importlib, json, sys
module = importlib.import_module(sys.argv[1])
def names(owner, depth):
    for name in dir(owner):
        if not name.startswith("_"):
            yield name
            if depth and isinstance(getattr(owner, name), type):
                yield from (f"{name}.{inner}" for inner in names(getattr(owner, name), depth - 1))
print(json.dumps(sorted(names(module, 2))))
"""


def listed(module: str, environment: dict[str, str]) -> set[str]:
    line = [sys.executable, "-c", LISTING, module]
    done = subprocess.run(line, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return set(json.loads(done.stdout))


def empty_libraries(binding: Path, folder: Path, major: int) -> None:
    """Libraries in which every function that a binding needs is there and does nothing."""
    undefined = subprocess.run(["nm", "-D", "--undefined-only", binding], capture_output=True, text=True).stdout
    # those of the C library carry a version, those of Python and weak ones are found elsewhere
    needed = [line.split()[1] for line in undefined.splitlines() if line.split()[0] == "U" and "@" not in line]
    source = "\n".join(f"void *{name}(void) {{ return 0; }}" for name in needed if not re.match("_?Py", name))
    folder.mkdir()
    for name in ("nvinfer", "nvonnxparser", "nvinfer_plugin", "nvparsers"):
        target = folder / f"lib{name}.so.{major}"
        line = ["gcc", "-shared", "-fPIC", "-w", "-x", "c", f"-Wl,-soname,{target.name}", "-o", str(target), "-"]
        subprocess.run(line, input=source, text=True, check=True)


def check(names: set[str], version: tuple[int, ...] | str) -> None:
    lacking = {name for name in used_names() if name not in names}
    allowed = {name for name, lacks in GUARDED.items() if lacks(version)}
    assert lacking <= allowed, f"{version} has no {sorted(lacking - allowed)}"
    # and what the code works around is really missing, or the branch can go
    assert {n for n in allowed if n in used_names()} <= lacking | {"NetworkDefinitionCreationFlag.STRONGLY_TYPED"}


def wheels() -> list[Path]:
    found = Path(os.environ[WHEELS]).glob("tensorrt*bindings-*.whl") if WHEELS in os.environ else []
    return sorted(path for path in found if "rtx" not in path.name)


@pytest.mark.parametrize("wheel", wheels() or [None], ids=lambda w: w.name.split("-cp")[0] if w else "none")
def test_names_of_a_release(wheel: Path | None, tmp_path: Path) -> None:
    if wheel is None:
        pytest.skip(f"no wheels of TensorRT's bindings ({WHEELS} is not set; see the head of this file)")
    if not (shutil.which("gcc") and shutil.which("nm")):
        pytest.skip("no gcc to make empty libraries")
    version = tuple(int(n) for n in wheel.name.split("-")[1].split(".")[:2])
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    empty_libraries(tmp_path / "tensorrt_bindings" / "tensorrt.so", tmp_path / "lib", version[0])
    environment = {"LD_LIBRARY_PATH": str(tmp_path / "lib"), "PYTHONPATH": str(tmp_path)}
    check(listed("tensorrt_bindings.tensorrt", environment), version)


def test_names_of_tensorrt_rtx() -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    check(listed("tensorrt_rtx", {}), RTX)


def test_the_code_uses_what_it_is_thought_to_use() -> None:
    """The reading of the source finds names of all kinds, so that an empty list cannot pass."""
    used = used_names()
    assert {
        "Builder.build_serialized_network",
        "IExecutionContext.execute_async_v3",
        "ICudaEngine.get_tensor_profile_shape",
        "ILogger.Severity.ERROR",
        "MemoryPoolType.WORKSPACE",
        "IOptimizationProfile.set_shape",
        "Runtime.deserialize_cuda_engine",
    } <= used
    assert len(used) > 50
