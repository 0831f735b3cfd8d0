"""TensorRT-RTX builds engines here, with no GPU; without the library only the refusals can be seen."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from posert.benchmarks.own_networks import networks
from posert.calib.fp16 import to_fp16
from posert.calib.observers import Range
from posert.calib.placement import place
from posert.calib.qdq import quantize
from posert.export.graph.reference import Reference
from posert.export.graph.to_onnx import to_onnx, with_crops
from posert.runtime.backends import load_backend
from posert.runtime.cli.main import main
from posert.runtime.engines import builder
from posert.runtime.engines.builder import Options
from posert.runtime.engines.sidecar import read_engine
from posert.runtime.errors import BackendError

TARGETS = ("sm75", "sm86", "sm89", "sm120")


@pytest.fixture(scope="module")
def rtx() -> Any:
    return pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")


@pytest.fixture(scope="module")
def graph(narrow_onnx: onnx.ModelProto, narrow_reference: Reference) -> onnx.ModelProto:
    return with_crops(narrow_onnx, narrow_reference.contract)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_network_for_all_targets(rtx: Any, graph: onnx.ModelProto, precision: str) -> None:
    model = (to_fp16(graph) if precision == "fp16" else graph).SerializeToString()
    phases: list[str] = []
    engine = builder.build(
        rtx, model, precision, Options(targets=TARGETS), progress=lambda phase, step, steps: phases.append(phase)
    )
    convolutions = sum(n.op_type == "Conv" for n in graph.graph.node)
    kind = "HALF" if precision == "fp16" else "FLOAT"
    # The parser keeps every convolution, and computes all of them in the type of the graph.
    assert engine.metadata.layers[f"CONVOLUTION {kind}"] == convolutions
    assert sum(n for layer, n in engine.metadata.layers.items() if layer.startswith("CONVOLUTION")) == convolutions
    assert engine.metadata.devices == TARGETS and engine.metadata.backend == "tensorrt_rtx"
    assert len(engine.plan) > len(model) / 4 and phases


def test_quantised_layers_stay_quantised(rtx: Any, graph: onnx.ModelProto) -> None:
    """One range for all tensors: what is asked is whether the parser takes the graph, not whether it is accurate."""
    names = {name for node in graph.graph.node for name in (*node.input, *node.output)}
    quantized = quantize(graph, {name: Range(-4.0, 4.0) for name in names}, fallback_dtype="float16").model
    convolutions = sum(n.op_type == "Conv" for n in quantized.graph.node)
    engine = builder.build(rtx, quantized.SerializeToString(), "int8", Options(targets=("sm89",)))
    layers = engine.metadata.layers
    assert layers["QUANTIZE INT8"] > 0
    assert sum(n for name, n in layers.items() if name.startswith("DEQUANTIZE")) >= convolutions
    # all that the placement quantised is int8 in the parsed network, and the rest is float16
    placed = place(graph).layers
    assert layers["CONVOLUTION HALF of INT8"] == len(placed) > 0
    assert layers.get("CONVOLUTION HALF", 0) == convolutions - len(placed)


@pytest.fixture(scope="module", params=["simcc", "vit"])
def with_products(request: pytest.FixtureRequest) -> onnx.ModelProto:
    """A small network of RTMPose's or ViTPose's kind, as a bundle's fp32 graph."""
    reference = Reference(*networks()[request.param]())
    return with_crops(to_onnx(reference), reference.contract)


def test_attention_and_simcc_for_all_targets(rtx: Any, with_products: onnx.ModelProto) -> None:
    names = {name for node in with_products.graph.node for name in (*node.input, *node.output)}
    ranges = {name: Range(-4.0, 4.0) for name in names}
    made = quantize(with_products, ranges, fallback_dtype="float16")
    products = sum(n.op_type == "MatMul" for n in with_products.graph.node)
    quantised = sum(n.op_type == "MatMul" and n.name in made.placement.layers for n in with_products.graph.node)
    for precision, model in (("fp16", to_fp16(with_products)), ("int8", made.model)):
        engine = builder.build(rtx, model.SerializeToString(), precision, Options(targets=TARGETS)).metadata
        assert engine.devices == TARGETS
        seen = [engine.layers.get(f"MATRIX_MULTIPLY HALF{suffix}", 0) for suffix in (" of INT8", "")]
        in_int8 = quantised if precision == "int8" else 0
        assert seen == [in_int8, products - in_int8] and products > quantised > 2


def test_float32_products_are_not_for_turing(rtx: Any, with_products: onnx.ModelProto) -> None:
    graph = with_products.SerializeToString()
    with pytest.raises(BackendError, match="leave sm75 out of --target, or build --precision fp16"):
        builder.build(rtx, graph, "fp32", Options(targets=TARGETS))
    assert builder.build(rtx, graph, "fp32", Options(targets=TARGETS[1:])).metadata.devices == TARGETS[1:]


def test_several_profiles_and_settings(rtx: Any, graph: onnx.ModelProto) -> None:
    options = Options(batch=((1, 1, 1), (2, 8, 32)), targets=("sm89",), workspace=256 << 20)
    made = builder.build(rtx, graph.SerializeToString(), "fp32", options).metadata
    assert made.batch == ((1, 1, 1), (2, 8, 32)) and made.options["workspace"] == 256 << 20


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": ("sm90",)}, "builds for sm75, sm80.*, not for sm90"),
        ({"compatibility": "ampere_plus"}, "TensorRT-RTX has no compatibility and version_compatible"),
    ],
)
def test_options_that_it_has_not(rtx: Any, graph: onnx.ModelProto, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BackendError, match=message):
        builder.build(rtx, graph.SerializeToString(), "fp32", Options(**changes))


def test_graphs_that_it_refuses(rtx: Any) -> None:
    with pytest.raises(BackendError, match=r"TensorRT-RTX .* refused the fp32 graph: "):
        builder.build(rtx, b"no graph", "fp32")
    with pytest.raises(BackendError, match="expected a dynamic batch"):
        builder.build(rtx, _fixed_batch(), "fp32")


def _fixed_batch() -> bytes:
    weight = numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), "w")
    shapes = ([1, 3, 8, 8], [1, 1, 8, 8])
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in zip("xy", shapes, strict=True))
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"])], "fixed", [x], [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    return bytes(model.SerializeToString())


def test_the_command(rtx: Any, narrow_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compile", str(narrow_bundle), "--precision", "fp32", "--output", str(tmp_path), "--batch", "1,1:4:8"]
    assert main([*arguments, "--target", "sm86,SM_89", "--workspace", "512M", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)["engines"]
    assert [(e["precision"], e["devices"], e["batch"]) for e in made] == [
        ("fp32", ["sm86", "sm89"], ["1:1:1", "1:4:8"])
    ]
    engine = read_engine(Path(made[0]["file"]))
    assert engine.metadata.options["workspace"] == 512 << 20 and len(engine.plan) == made[0]["bytes"]

    for wrong, message in (
        (["--target", "sm90"], "TensorRT-RTX builds for sm75"),
        (["--precision", "fp16"], "has fp32 for tensorrt_rtx, not 'fp16'"),
        (["--batch", "1:x"], "expected MIN:OPT:MAX"),
        (["--batch", "4:2:8"], "ascending"),
        (["--workspace", "much"], "512M or 2G"),
    ):
        assert main([*arguments, *wrong]) == 2
        assert message in capsys.readouterr().err


def test_tensorrt_needs_its_gpu(narrow_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which("nvidia-smi") or "POSERT_LIBCUDA" in os.environ:
        pytest.skip("there is a GPU here")
    assert main(["compile", str(narrow_bundle), "--backend", "tensorrt", "--precision", "fp32"]) == 2
    message = capsys.readouterr().err
    assert "pip install" in message or "on the GPU that runs them" in message


def test_it_is_not_chosen_where_it_cannot_run(rtx: Any) -> None:
    from posert.runtime.backends import installed_backends

    lacking = load_backend("tensorrt_rtx").unavailable()
    if lacking is None:
        pytest.skip("there is a GPU here")
    assert "driver" in lacking
    assert "tensorrt_rtx" not in installed_backends()
