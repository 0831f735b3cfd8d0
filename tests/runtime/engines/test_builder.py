"""What the builder of TensorRT or TensorRT-RTX is told to build, and what becomes of the result."""

from __future__ import annotations

import enum
import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from posert.runtime.engines import builder
from posert.runtime.engines.builder import Options, build, too_old
from posert.runtime.errors import BackendError


def tensor(name: str, kind: str) -> Any:
    return SimpleNamespace(name=name, dtype=SimpleNamespace(name=kind))


def layer(kind: str, output: Any, *inputs: Any) -> Any:
    return SimpleNamespace(
        type=SimpleNamespace(name=kind),
        num_inputs=len(inputs),
        get_input=lambda k: inputs[k],
        get_output=lambda k: output,
    )


def layers() -> list[Any]:
    """Two quantised convolutions, and two of which only the weights or only the data are dequantised."""
    data, weights = tensor("data", "HALF"), tensor("weights", "HALF")
    return [
        layer("DEQUANTIZE", data, tensor("data8", "INT8")),
        layer("DEQUANTIZE", weights, tensor("weights8", "INT8")),
        layer("CONVOLUTION", tensor("a", "HALF"), data, weights, None),
        layer("DECONVOLUTION", tensor("b", "HALF"), data, weights),
        layer("CONVOLUTION", tensor("c", "HALF"), tensor("a", "HALF"), weights),
        layer("CONVOLUTION", tensor("d", "HALF"), data),
    ]


def library(rtx: bool = False, shape: tuple[int, ...] = (-1, 64, 48, 3), error: str = "") -> MagicMock:
    """A module like `tensorrt` with one graph; `config_of` has what its builder is told."""

    class Logger:
        Severity = SimpleNamespace(ERROR=1, INTERNAL_ERROR=0)

    class Monitor:
        pass

    trt = MagicMock(__version__="1.7.1" if rtx else "10.9.0", ILogger=Logger, IProgressMonitor=Monitor)
    trt.HardwareCompatibilityLevel = enum.IntEnum("HardwareCompatibilityLevel", {"NONE": 0, "AMPERE_PLUS": 1})
    trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED = 3
    if rtx:
        trt.ComputeCapability = enum.IntEnum("ComputeCapability", {"NONE": 0, "SM86": 86, "SM89": 89})
    else:
        del trt.ComputeCapability
    seen = layers()
    network = MagicMock(num_inputs=1, num_layers=len(seen), get_layer=seen.__getitem__)
    network.get_input.return_value = MagicMock(shape=shape)
    network.get_input.return_value.name = "crops"
    trt.Builder.return_value.create_network.return_value = network

    def serialize(network: Any, config: Any) -> bytes | None:
        if error:
            trt.Builder.call_args[0][0].log(Logger.Severity.ERROR, error)
        return None if error else b"plan"

    trt.Builder.return_value.build_serialized_network = serialize
    trt.OnnxParser.return_value.parse = lambda model: model != b"no graph"
    trt.OnnxParser.return_value.num_errors = 1
    trt.OnnxParser.return_value.get_error.return_value.desc.return_value = "not a model"

    config = config_of(trt)
    config.create_timing_cache = lambda data: None if data == b"damaged" else SimpleNamespace(data=data)
    config.set_timing_cache = lambda cache, ignore: not ignore and cache.data != b"of another driver"
    config.get_timing_cache.return_value.serialize.return_value = b"timed"
    return trt


def config_of(trt: MagicMock) -> MagicMock:
    found: MagicMock = trt.Builder.return_value.create_builder_config.return_value
    return found


def flags(trt: MagicMock) -> list[Any]:
    return [call.args[0] for call in config_of(trt).set_flag.call_args_list]


def test_options_reach_the_builder() -> None:
    trt = library()
    options = Options(
        batch=((1, 1, 1), (2, 8, 32)), workspace=256 << 20, compatibility="ampere_plus", version_compatible=True
    )
    engine = build(trt, b"graph", "fp16", options, device="A GPU")
    profile = trt.Builder.return_value.create_optimization_profile.return_value
    shapes = [call.args for call in profile.set_shape.call_args_list]
    assert shapes == [("crops", *((n, 64, 48, 3) for n in sizes)) for sizes in options.batch]
    config = config_of(trt)
    config.set_memory_pool_limit.assert_called_once_with(trt.MemoryPoolType.WORKSPACE, 256 << 20)
    assert config.hardware_compatibility_level == 1 and flags(trt) == [trt.BuilderFlag.VERSION_COMPATIBLE]
    metadata = engine.metadata
    assert (metadata.devices, metadata.batch, metadata.timing_cache) == (("A GPU",), options.batch, "")
    assert metadata.options == options.recorded() and metadata.model == hashlib.sha256(b"graph").hexdigest()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_types_are_those_of_the_graph(precision: str) -> None:
    """No flag of a precision, a strongly typed network, and float32 that is not rounded to TF32."""
    trt = library()
    build(trt, b"graph", precision, device="A GPU")
    trt.Builder.return_value.create_network.assert_called_once_with(1 << 3)
    config_of(trt).clear_flag.assert_called_once_with(trt.BuilderFlag.TF32)
    assert flags(trt) == [] and not config_of(trt).set_memory_pool_limit.called


def test_progress() -> None:
    trt = library()
    steps: list[tuple[str, int, int]] = []
    build(trt, b"graph", "fp16", device="A GPU", progress=lambda *step: steps.append(step))
    monitor = config_of(trt).progress_monitor
    monitor.phase_start("tactics", None, 3)
    assert monitor.step_complete("tactics", 0) is True
    monitor.phase_finish("tactics")
    assert steps == [("tactics", 0, 3), ("tactics", 1, 3), ("tactics", 3, 3)]


@pytest.mark.parametrize("before", [None, b"of this driver", b"of another driver", b"damaged"])
def test_timings_are_written_and_hashed(tmp_path: Path, before: bytes | None) -> None:
    path = tmp_path / "cache" / "gpu.timing"
    if before is not None:
        path.parent.mkdir()
        path.write_bytes(before)
    engine = build(library(), b"graph", "fp16", device="A GPU", timing_cache=path)
    assert path.read_bytes() == b"timed"
    assert engine.metadata.timing_cache == hashlib.sha256(b"timed").hexdigest()


def test_tensorrt_rtx_has_targets_and_no_timings(tmp_path: Path) -> None:
    trt = library(rtx=True)
    engine = build(trt, b"graph", "fp16", Options(targets=("sm89", "sm86")), timing_cache=tmp_path / "none")
    config = config_of(trt)
    assert config.num_compute_capabilities == 2
    assert [call.args for call in config.set_compute_capability.call_args_list] == [(89, 0), (86, 1)]
    assert flags(trt) == [trt.BuilderFlag.REQUIRE_USER_ALLOCATION]
    assert engine.metadata.devices == ("sm89", "sm86") and engine.metadata.timing_cache == ""
    assert not (tmp_path / "none").exists()


def test_what_is_int8_is_counted_apart() -> None:
    """A convolution is int8 only if its data and its weights are."""
    assert build(library(), b"graph", "int8", device="A GPU").metadata.layers == {
        "CONVOLUTION HALF": 2,
        "CONVOLUTION HALF of INT8": 1,
        "DECONVOLUTION HALF of INT8": 1,
        "DEQUANTIZE HALF": 2,
    }


@pytest.mark.parametrize(
    ("trt", "options", "message"),
    [
        (library(error="no kernel fits"), Options(), "could not build the fp16 engine: no kernel fits"),
        (library(shape=(1, 64, 48, 3)), Options(), r"input crops is \(1, 64, 48, 3\): expected a dynamic batch"),
        (library(), Options(targets=("sm89",)), "targets are for --backend tensorrt_rtx"),
        (library(), Options(compatibility="turing"), "has the compatibilities none, ampere_plus, not 'turing'"),
        (library(rtx=True), Options(version_compatible=True), "TensorRT-RTX has no compatibility and version_compat"),
        (library(rtx=True), Options(targets=("sm90",)), "builds for sm86, sm89, not for sm90"),
    ],
)
def test_refusals(trt: Any, options: Options, message: str) -> None:
    with pytest.raises(BackendError, match=message):
        build(trt, b"graph", "fp16", options, device="A GPU")


def test_a_graph_that_cannot_be_parsed() -> None:
    with pytest.raises(BackendError, match="^TensorRT 10.9.0 refused the int8 graph: not a model$"):
        build(library(), b"no graph", "int8")


def test_too_little_memory_is_reported_before_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "free_memory", lambda: 100 << 20)
    with pytest.raises(BackendError, match="takes about 1.6 GB of memory and 0.1 GB are free"):
        build(library(), b"graph", "fp32")


@pytest.mark.parametrize(
    ("release", "seen"), [("8.6.2", "8.6"), ("10.0.1", "10.0"), ("10.1.0", None), ("11.4.0.106", None)]
)
def test_releases_that_are_too_old(release: str, seen: str | None) -> None:
    expected = f"TensorRT {seen} is too old: posert needs 10.1 or later (JetPack 6.1)"
    assert too_old(release) == (expected if seen else None)
