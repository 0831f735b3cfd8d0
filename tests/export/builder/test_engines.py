"""Engines of a build: the plan with and without the libraries, the audit, and real engines by TensorRT-RTX."""

from __future__ import annotations

import enum
import json
import re
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from posert.export.builder.engine_plan import EnginePlan, plan_engines
from posert.export.builder.engines import audit
from posert.runtime.bundle.archive import Artifact, Bundle
from posert.runtime.cli.main import main
from posert.runtime.engines.sidecar import EngineMetadata, read_engine
from posert.runtime.errors import BackendError, InputError

OUTPUT = Path("made/net.pose")


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Installs an empty TensorRT-RTX or TensorRT; without a call neither is there."""
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)

    def install(name: str) -> None:
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        vars(module)["__version__"] = "1.7.1"
        if name == "tensorrt_rtx":
            vars(module)["ComputeCapability"] = enum.IntEnum("ComputeCapability", {"NONE": 0, "SM86": 86, "SM89": 89})
        monkeypatch.setitem(sys.modules, name, module)

    return install


def test_nothing_is_installed(library: Callable[[str], None]) -> None:
    """The note has the lines that go on, which are the command line's own."""
    plan = plan_engines("auto", ("sm86", "sm89"), ("fp16", "int8"), OUTPUT)
    assert plan == EnginePlan(note=plan.note)
    assert plan.note.splitlines() == [
        "no engines: TensorRT-RTX is not installed. The bundle is complete; go on with:",
        'pip install "posert[tensorrt-rtx]"',
        "posert compile made/net.pose --backend tensorrt_rtx --precision fp16,int8 --target sm86,sm89 --output made",
    ]
    with pytest.raises(BackendError, match="not installed: pip install"):
        plan_engines("tensorrt_rtx", (), ("fp16",), OUTPUT)


def test_the_library_and_no_gpu(library: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSERT_LIBCUDA", "/nosuch.so")
    library("tensorrt_rtx")
    library("tensorrt")
    assert plan_engines("auto", ("sm89",), ("fp16",), OUTPUT) == EnginePlan("tensorrt_rtx", ("fp16",), ("sm89",), True)
    assert plan_engines("tensorrt_rtx", ("sm89",), ("fp16",), OUTPUT).asked
    note = plan_engines("auto", (), ("fp16",), OUTPUT).note
    assert "finds no GPU here" in note and "--target sm89" in note and "pip install" not in note


@pytest.mark.parametrize(
    ("engine", "targets", "message"),
    [
        ("auto", ("sm90",), "--target sm90: TensorRT-RTX builds for sm86, sm89"),
        ("tensorrt_rtx", ("sm90", "sm89"), "--target sm90: TensorRT-RTX builds for sm86, sm89"),
        ("tensorrt_rtx", (), "finds no GPU here that it could build for"),
        ("tensorrt", ("sm89",), "TensorRT builds for the GPU of this machine"),
        ("tensorrt", (), "no NVIDIA driver here"),
        ("none", ("sm89",), "--engine none leaves them out"),
    ],
)
def test_what_cannot_be_built(
    library: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, engine: str, targets: tuple[str, ...], message: str
) -> None:
    monkeypatch.setenv("POSERT_LIBCUDA", "/nosuch.so")
    library("tensorrt_rtx")
    library("tensorrt")
    with pytest.raises(InputError, match=re.escape(message)):
        plan_engines(engine, targets, ("fp16",), OUTPUT)


def graph_of(half: bool = False, quantized: bool = False) -> bytes:
    """A convolution, in float32, with weights in float16, or between dequantised data and weights."""
    kind = np.float16 if half else np.float32
    nodes, read, constants = [], ["x", "w"], [numpy_helper.from_array(np.ones((1, 3, 1, 1), kind), "w")]
    if quantized:
        constants += [numpy_helper.from_array(np.ones((), np.float32), "s"), numpy_helper.from_array(np.int8(0), "z")]
        for name in ("x", "w"):
            nodes.append(helper.make_node("QuantizeLinear", [name, "s", "z"], [f"{name}8"]))
            nodes.append(helper.make_node("DequantizeLinear", [f"{name}8", "s", "z"], [f"{name}d"]))
        read = ["xd", "wd"]
    nodes.append(helper.make_node("Conv", read, ["y"]))
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, 8, 8]) for n, c in (("x", 3), ("y", 1)))
    return bytes(helper.make_model(helper.make_graph(nodes, "g", [x], [y], constants)).SerializeToString())


@pytest.mark.parametrize(
    ("graph", "layers", "problem"),
    [
        (graph_of(), {"CONVOLUTION FLOAT": 1}, ""),
        (graph_of(), {}, "it has 0 of 1 convolutions and matrix products"),
        (graph_of(half=True), {"CONVOLUTION HALF": 1}, ""),
        (graph_of(half=True), {"CONVOLUTION FLOAT": 1}, "0 of 1 layers with float16 weights are float16"),
        (graph_of(quantized=True), {"CONVOLUTION FLOAT of INT8": 1}, ""),
        (graph_of(quantized=True), {"CONVOLUTION FLOAT": 1}, "0 of 1 quantised layers are int8"),
    ],
)
def test_the_audit(graph: bytes, layers: dict[str, int], problem: str) -> None:
    built = EngineMetadata("", "fp16", "tensorrt_rtx", "1", ("sm89",), ((1, 8, 32),), {}, layers)
    assert audit(built, Artifact("fp16", "onnx", "fp16.onnx", "", 0, "fp16"), graph) == problem


@pytest.mark.slow
def test_real_engines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By TensorRT-RTX, without a GPU: one for each precision and target, audited, as the builder gave them."""
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    output = tmp_path / "net.pose"
    arguments = ["--precision", "fp16,int8", "--target", "sm86,sm89", "--limit", "4", "--max-drop", "0.9"]
    command = ["build", "--arch", "hrnet_demo", "--weights", "demo", "--output", str(output), *arguments]
    assert main([*command, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)["engines"]
    assert [(one["precision"], one["target"]) for one in made] == [
        (p, t) for p in ("fp16", "int8") for t in ("sm86", "sm89")
    ]
    with Bundle(output) as bundle:
        for one in made:
            path = tmp_path / f"net.tensorrt_rtx.{one['target']}.{one['precision']}.engine"
            assert one["file"] == str(path)
            engine = read_engine(path)
            graph = bundle.artifacts["int8_gpu" if one["precision"] == "int8" else one["precision"]]
            assert engine.metadata.model == graph.sha256 and engine.metadata.devices == (one["target"],)
            assert engine.origin is not None and engine.origin.contract == bundle.contract
            assert engine.origin.accuracy["verdict"] == one["verdict"] == "passed"
            assert bytes(engine.plan[:4]) == b"ftrt"  # as TensorRT's plans begin; nothing stands before it
    assert main(["inspect", str(path)]) == 0
    assert "CONVOLUTION HALF of INT8" in capsys.readouterr().out


def test_compile_leaves_plans_with_sidecars(
    narrow_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rtx = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    given: list[bytes] = []
    real = rtx.Builder.build_serialized_network

    def build(self: Any, *rest: Any) -> Any:
        plan = real(self, *rest)
        given.append(bytes(plan))
        return plan

    monkeypatch.setattr(rtx.Builder, "build_serialized_network", build)
    arguments = ["--precision", "fp32", "--target", "sm86,sm89", "--output", str(tmp_path)]
    assert main(["compile", str(narrow_bundle), *arguments]) == 0
    path = tmp_path / "narrow.tensorrt_rtx.sm86-sm89.fp32.engine"
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, f"{path.name}.json"]
    assert path.read_bytes() == given[0]
