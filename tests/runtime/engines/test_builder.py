"""What the builders of TensorRT 8, 10 and TensorRT-RTX are told: libraries that write down what they are asked."""

from __future__ import annotations

import enum
import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from posert.runtime.engines import builder as _trt
from posert.runtime.engines.builder import Options
from posert.runtime.errors import BackendError


class Creation(enum.IntEnum):
    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1


class OldCreation(enum.IntEnum):
    EXPLICIT_BATCH = 0


class TimingCache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> bytes:
        return self.data + b"+timed"


class Config:
    """What `IBuilderConfig` is told."""

    def __init__(self, told: dict[str, Any]) -> None:
        object.__setattr__(self, "told", told)
        told.update(flags=[], profiles=[])

    def __setattr__(self, name: str, value: Any) -> None:
        self.told[name] = value

    def add_optimization_profile(self, profile: Any) -> None:
        self.told["profiles"].append(profile.shapes)

    def set_memory_pool_limit(self, pool: str, size: int) -> None:
        self.told[pool] = size

    def set_preview_feature(self, feature: str, on: bool) -> None:
        self.told[feature] = on

    def clear_flag(self, flag: str) -> None:
        self.told.setdefault("cleared", []).append(flag)

    def set_flag(self, flag: str) -> None:
        self.told["flags"].append(flag)

    def set_compute_capability(self, target: int, i: int) -> None:
        self.told.setdefault("targets", []).append(int(target))

    def create_timing_cache(self, data: bytes) -> TimingCache | None:
        return None if data == b"damaged" else TimingCache(data)

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if cache is None:
            raise TypeError("incompatible function arguments")
        if cache.data == b"of another driver":
            return False
        self.told["timing_cache"] = cache
        return True

    def get_timing_cache(self) -> TimingCache | None:
        return self.told.get("timing_cache")


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[Any, ...]] = {}

    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        self.shapes[name] = shapes


def tensor(name: str, kind: str, shape: tuple[int, ...] = (-1, 64, 48, 3)) -> Any:
    return SimpleNamespace(name=name, shape=shape, dtype=SimpleNamespace(name=kind))


def layer(kind: str, output: Any, *inputs: Any) -> Any:
    return SimpleNamespace(
        type=SimpleNamespace(name=kind),
        num_inputs=len(inputs),
        get_input=lambda k: inputs[k],
        get_output=lambda k: output,
    )


def layers() -> list[Any]:
    """Two quantised convolutions, one of them of floats that are weighted by int8, and one in float."""
    data, weights = tensor("data", "HALF"), tensor("weights", "HALF")
    return [
        layer("DEQUANTIZE", data, tensor("data8", "INT8")),
        layer("DEQUANTIZE", weights, tensor("weights8", "INT8")),
        layer("CONVOLUTION", tensor("a", "HALF"), data, weights, None),
        layer("DECONVOLUTION", tensor("b", "HALF"), data, weights),
        layer("CONVOLUTION", tensor("c", "HALF"), tensor("a", "HALF"), weights),
        layer("CONVOLUTION", tensor("d", "HALF"), data),
    ]


def library(version: str = "10.9.0", told: dict[str, Any] | None = None, rtx: bool = False, **changes: Any) -> Any:
    """A module like `tensorrt`; `told` receives what its builder is told."""
    told = {} if told is None else told
    old = version.startswith("8")

    class ILogger:
        Severity = SimpleNamespace(ERROR=1, INTERNAL_ERROR=0)

    class Builder:
        def __init__(self, messages: Any) -> None:
            self.messages = messages

        def create_network(self, flags: int) -> Any:
            told["network"] = flags
            seen = layers()
            shape = changes.get("shape", (-1, 64, 48, 3))
            return SimpleNamespace(
                num_inputs=1,
                get_input=lambda i: tensor("crops", "UINT8", shape),
                num_layers=len(seen),
                get_layer=lambda i: seen[i],
            )

        def create_builder_config(self) -> Config:
            return Config(told)

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def build_serialized_network(self, network: Any, config: Config) -> bytes | None:
            if "refuses" in changes:
                self.messages.log(1, changes["refuses"])
                return None
            return b"plan"

    class OnnxParser:
        def __init__(self, network: Any, messages: Any) -> None:
            self.num_errors = 1

        def parse(self, model: bytes) -> bool:
            return model != b"no graph"

        def get_error(self, i: int) -> Any:
            return SimpleNamespace(desc=lambda: "not a model")

    class IProgressMonitor:
        pass

    module = SimpleNamespace(
        __version__=version,
        ILogger=ILogger,
        Builder=Builder,
        OnnxParser=OnnxParser,
        NetworkDefinitionCreationFlag=OldCreation if old else Creation,
        ProfilingVerbosity=SimpleNamespace(DETAILED="DETAILED"),
        MemoryPoolType=SimpleNamespace(WORKSPACE="WORKSPACE"),
        PreviewFeature=SimpleNamespace(**({"PROFILE_SHARING_0806": "SHARING"} if old else {})),
        BuilderFlag=SimpleNamespace(
            FP16="FP16",
            INT8="INT8",
            TF32="TF32",
            VERSION_COMPATIBLE="VERSION_COMPATIBLE",
            REQUIRE_USER_ALLOCATION="USER",
        ),
        HardwareCompatibilityLevel=enum.IntEnum("HardwareCompatibilityLevel", {"NONE": 0, "AMPERE_PLUS": 1}),
    )
    if not old:
        module.IProgressMonitor = IProgressMonitor
    if rtx:
        module.ComputeCapability = enum.IntEnum("ComputeCapability", {"NONE": 0, "SM86": 86, "SM89": 89})
    return module


def test_every_option_reaches_the_builder() -> None:
    told: dict[str, Any] = {}
    options = Options(
        batch=((1, 1, 1), (2, 8, 32)),
        workspace=256 << 20,
        level=5,
        aux_streams=2,
        compatibility="ampere_plus",
        version_compatible=True,
    )
    engine = _trt.build(library(told=told), b"graph", "fp16", options, device="A GPU", progress=lambda *_: None)
    shapes = [[shape[0] for shape in profile["crops"]] for profile in told["profiles"]]
    assert shapes == [[1, 1, 1], [2, 8, 32]] and told["profiles"][0]["crops"][0][1:] == (64, 48, 3)
    assert (told["WORKSPACE"], told["builder_optimization_level"], told["max_aux_streams"]) == (256 << 20, 5, 2)
    assert told["hardware_compatibility_level"] == 1 and told["flags"] == ["VERSION_COMPATIBLE"]
    assert told["cleared"] == ["TF32"]
    assert told["network"] == 1 << Creation.STRONGLY_TYPED and told["profiling_verbosity"] == "DETAILED"
    made = engine.made
    assert (made.devices, made.batch, made.timing_cache) == (("A GPU",), options.batch, "")
    assert made.options == options.recorded() and made.model == hashlib.sha256(b"graph").hexdigest()


def test_defaults_are_left_to_the_library() -> None:
    told: dict[str, Any] = {}
    _trt.build(library(told=told), b"graph", "int8", device="A GPU")
    assert not {"WORKSPACE", "builder_optimization_level", "max_aux_streams", "timing_cache"} & told.keys()
    assert told["flags"] == []  # the types are in the graph


@pytest.mark.parametrize(("precision", "flags"), [("fp32", []), ("fp16", ["FP16"]), ("int8", ["FP16", "INT8"])])
def test_tensorrt_8_has_flags_in_place_of_types(precision: str, flags: list[str]) -> None:
    told: dict[str, Any] = {}
    _trt.build(library("8.6.2", told), b"graph", precision, device="A GPU", progress=lambda *_: None)
    assert told["network"] == 1 << OldCreation.EXPLICIT_BATCH and told["flags"] == flags and told["SHARING"] is True
    with pytest.raises(BackendError, match="refused the int8 graph: not a model TensorRT 8 reads opset 17 and older"):
        _trt.build(library("8.6.2"), b"no graph", "int8")


def test_progress_is_told(tmp_path: Path) -> None:
    told: dict[str, Any] = {}
    steps: list[tuple[str, int, int]] = []
    _trt.build(library(told=told), b"graph", "fp16", device="A GPU", progress=lambda *step: steps.append(step))
    monitor = told["progress_monitor"]
    monitor.phase_start("tactics", None, 3)
    assert monitor.step_complete("tactics", 0) is True
    monitor.phase_finish("tactics")
    assert steps == [("tactics", 0, 3), ("tactics", 1, 3), ("tactics", 3, 3)]


def test_timings_are_kept_and_hashed(tmp_path: Path) -> None:
    path, told = tmp_path / "cache" / "gpu.timing", dict[str, Any]()
    first = _trt.build(library(told=told), b"graph", "fp16", device="A GPU", timing_cache=path)
    assert path.read_bytes() == b"+timed"
    assert first.made.timing_cache == hashlib.sha256(b"+timed").hexdigest()
    again = _trt.build(library(told=told), b"graph", "fp16", device="A GPU", timing_cache=path)
    assert path.read_bytes() == b"+timed+timed" and told["timing_cache"].data == b"+timed"
    assert again.made.timing_cache != first.made.timing_cache
    assert [p.name for p in path.parent.iterdir()] == ["gpu.timing"]
    # TensorRT-RTX has none
    engine = _trt.build(library("1.7.1", rtx=True), b"graph", "fp16", timing_cache=tmp_path / "none")
    assert engine.made.timing_cache == "" and not (tmp_path / "none").exists()


@pytest.mark.parametrize("old", [b"of another driver", b"damaged"])
def test_timings_that_do_not_hold_are_made_anew(tmp_path: Path, old: bytes) -> None:
    path = tmp_path / "gpu.timing"
    path.write_bytes(old)
    _trt.build(library(), b"graph", "fp16", device="A GPU", timing_cache=path)
    assert path.read_bytes() == b"+timed"


def test_tensorrt_rtx_is_told_its_targets() -> None:
    told: dict[str, Any] = {}
    engine = _trt.build(library("1.7.1", told, rtx=True), b"graph", "fp16", Options(targets=("sm89", "sm86")))
    assert (told["num_compute_capabilities"], told["targets"], told["flags"]) == (2, [89, 86], ["USER"])
    assert engine.made.devices == ("sm89", "sm86")
    with pytest.raises(BackendError, match="builds for sm86, sm89, not for sm90"):
        _trt.build(library("1.7.1", rtx=True), b"graph", "fp16", Options(targets=("sm90",)))


def test_what_is_int8_is_counted_apart() -> None:
    """A convolution is int8 only if its data and its weights are."""
    made = _trt.build(library(), b"graph", "int8", device="A GPU").made
    assert made.layers == {
        "CONVOLUTION HALF": 2,
        "CONVOLUTION HALF of INT8": 1,
        "DECONVOLUTION HALF of INT8": 1,
        "DEQUANTIZE HALF": 2,
    }


@pytest.mark.parametrize(
    ("trt", "options", "message"),
    [
        (library(refuses="no kernel fits"), Options(), "could not build the fp16 engine: no kernel fits"),
        (library(shape=(1, 64, 48, 3)), Options(), r"input crops is \(1, 64, 48, 3\): expected a dynamic batch"),
        (library(), Options(targets=("sm89",)), "targets are for --backend tensorrt_rtx"),
        (library(), Options(compatibility="turing"), "has the compatibilities none, ampere_plus, not 'turing'"),
        (library("1.7", rtx=True), Options(aux_streams=1), "TensorRT-RTX has no aux_streams"),
    ],
)
def test_refusals(trt: Any, options: Options, message: str) -> None:
    with pytest.raises(BackendError, match=message):
        _trt.build(trt, b"graph", "fp16", options, device="A GPU")


MEMINFO = "MemTotal: 16000000 kB\nMemFree: 10 kB\nMemAvailable:    8000000 kB\n"


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, None),
        ({"proc/meminfo": MEMINFO}, 8000000 << 10),
        (  # a container with a limit, whose cached files can be given up
            {
                "proc/meminfo": MEMINFO,
                "sys/fs/cgroup/memory.max": "2000000000\n",
                "sys/fs/cgroup/memory.current": "1500000000\n",
                "sys/fs/cgroup/memory.stat": "anon 7\nfile 9\ninactive_file 300000000\n",
            },
            800000000,
        ),
        (
            {
                "proc/meminfo": MEMINFO,
                "sys/fs/cgroup/memory.max": "max\n",
                "sys/fs/cgroup/memory.current": "1500000000\n",
                "sys/fs/cgroup/memory.stat": "inactive_file 0\n",
            },
            8000000 << 10,
        ),
        (
            {
                "proc/meminfo": MEMINFO,
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "1000000000\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "600000000\n",
                "sys/fs/cgroup/memory/memory.stat": "cache 5\ntotal_inactive_file 100000000\n",
            },
            500000000,
        ),
    ],
)
def test_free_memory(tmp_path: Path, files: dict[str, str], free: int | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert _trt._free_memory(tmp_path) == free


def test_too_little_memory_is_told_before_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_trt, "_free_memory", lambda: 100 << 20)
    with pytest.raises(BackendError, match="takes about 1.6 GB of memory and 0.1 GB are free"):
        _trt.build(library(), b"graph", "fp32")
