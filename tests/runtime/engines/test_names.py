"""Every name of TensorRT that the code uses is in every release from 10.1 to 11, as far as that shows without a GPU.

The bindings of real releases are imported against empty libraries that are made here, so that their classes can be
listed. The wheels are about 1 MB each; with the folder of them in POSERT_TENSORRT_WHEELS the tests run:

    for v in 10.1.0 10.3.0 10.8.0.43 10.16.1.11; do pip download --no-deps -d wheels tensorrt-cu12-bindings==$v; done
    pip download --no-deps -d wheels tensorrt-cu13-bindings==11.4.0.106
"""

from __future__ import annotations

import ast
import builtins
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from posert.runtime import engines

FILES = [Path(engines.__file__).with_name(name) for name in ("builder.py", "session.py")]
WHEELS = "POSERT_TENSORRT_WHEELS"
MODULE = ("trt", "self._trt")
# The library's class behind each expression of the code that has attributes.
CLASSES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "parser.get_error(i)": "ParserError",
    "config": "IBuilderConfig",
    "config.get_timing_cache()": "ITimingCache",
    "profile": "IOptimizationProfile",
    "tensor": "ITensor",
    "layer": "ILayer",
    "layer.type": "LayerType",
    "layer.get_input(0)": "ITensor",
    "layer.get_output(0)": "ITensor",
    "layer.get_output(0).dtype": "DataType",
    "context": "IExecutionContext",
    "runtime_config": "IRuntimeConfig",
    "self._compiled_kernels": "IRuntimeCache",
    "self._engine": "ICudaEngine",
    "self._engine.get_tensor_dtype(name)": "DataType",
    "self._runtime": "Runtime",
}
# Variables that hold something of posert or Python. A variable that is in neither table fails the test.
OURS = {
    *("options", "messages", "path", "file", "device", "engine", "found", "stream", "scratch", "version", "log", "n"),
    *("others", "release"),
    *("self", "self._compiled", "self._messages", "self.errors"),
}
RTX = "tensorrt_rtx"
# Names that the code uses for TensorRT-RTX only: which releases lack them.
GUARDED = {
    "ICudaEngine.create_runtime_config": lambda v: v != RTX and v < (10, 9),
    "IRuntimeConfig.set_execution_context_allocation_strategy": lambda v: v != RTX and v < (10, 9),
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


def attributes(file: Path) -> list[tuple[ast.expr, str]]:
    """Each expression of a file that has an attribute, and the attribute; `hasattr` names one too."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Attribute):
            found.append((node.value, node.attr))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "hasattr":
            found.append((node.args[0], ast.literal_eval(node.args[1])))
    return found


def root(owner: ast.expr) -> str:
    """The variable that an expression begins with: `config` of `config.get_timing_cache()`, `self._engine`, ..."""
    if isinstance(owner, ast.Attribute) and isinstance(owner.value, ast.Name) and owner.value.id == "self":
        return ast.unparse(owner)
    for inner in (getattr(owner, "value", None), getattr(owner, "func", None)):
        if isinstance(inner, ast.expr):
            return root(inner)
    return ast.unparse(owner)


def imported(file: Path) -> set[str]:
    """Names that a file imports, which are not the library's: that is a parameter, `trt`."""
    nodes = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Import | ast.ImportFrom)]
    return {alias.asname or alias.name for node in nodes for alias in node.names}


def read_names() -> tuple[set[str], set[str], set[str]]:
    """The library's names that the code uses, as "Builder.create_network"; the expressions of `CLASSES` and variables
    of `OURS` that it uses; and variables that are in neither table."""
    names: set[str] = set()
    seen: set[str] = set()
    unknown: set[str] = set()
    for file in FILES:
        skipped = imported(file) | set(dir(builtins))
        for owner, attribute in attributes(file):
            text, variable = ast.unparse(owner), root(owner)
            module = next((m for m in MODULE if text == m or text.startswith(f"{m}.")), None)
            if isinstance(owner, ast.Constant) or variable in skipped or "__" in f"{text}.{attribute}":
                continue  # "__": `__version__`, and the members of an enumeration, are Python's
            if module:
                names.add(f"{text}.{attribute}".removeprefix(f"{module}."))
            elif text in CLASSES:
                names.add(f"{CLASSES[text]}.{attribute}")
                seen.add(text)
            elif variable in OURS:
                seen.add(variable)
            else:
                unknown.add(text)
    return names, seen, unknown


def test_every_variable_is_the_librarys_or_ours() -> None:
    """A variable that was renamed or is new does not end the check of its names."""
    _, seen, unknown = read_names()
    assert not unknown, "put these into CLASSES or OURS"
    assert seen == set(CLASSES) | OURS, "these are no longer used"


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
    used = read_names()[0]
    lacking = used - names
    allowed = {name for name, lacks in GUARDED.items() if lacks(version)}
    assert lacking <= allowed, f"{version} has no {sorted(lacking - allowed)}"
    assert allowed <= lacking, f"{version} has {sorted(allowed - lacking)}: the code needs no test for it"


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
    used = read_names()[0]
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
