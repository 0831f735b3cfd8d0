"""Engines on the GPU, with a stand-in for TensorRT: what is cached, what is refused and with which message."""

from __future__ import annotations

import ctypes
import enum
import gc
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from posert.runtime import selection
from posert.runtime.backends import Backend
from posert.runtime.bundle.archive import Artifact, Golden
from posert.runtime.bundle.contract import Contract
from posert.runtime.cli.main import main
from posert.runtime.cuda.driver import Device, Stream
from posert.runtime.engines import autotune, builder
from posert.runtime.engines import session as engine_session
from posert.runtime.engines.builder import Options
from posert.runtime.engines.cache import find_engine
from posert.runtime.engines.engine_file import EngineFile
from posert.runtime.engines.sidecar import Engine, EngineMetadata, Origin, read_engine, write_engine
from posert.runtime.errors import BackendError
from posert.runtime.estimator import PoseEstimator
from posert.runtime.selection import Selection
from posert.runtime.system import files

CROP, HEATMAP = (8, 6, 3), (2, 2, 3)
CAPABILITY = 2


def heatmaps_of(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    means = crops.reshape(len(crops), -1)[:, :12].astype(np.float32) / 255
    return means.reshape(len(crops), *HEATMAP)


class Context:
    """What `IExecutionContext` does, in the stream of the fake GPU."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine, self.addresses, self.kept = engine, {}, []
        self.scratch: tuple[int, int] | None = None

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self.profile = profile
        return "profile" not in self.engine.refuses

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self.engine.profiles[self.profile]
        self.batch = shape[0]
        return shape[1:] == CROP and low <= shape[0] <= high

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def set_device_memory(self, address: int, size: int) -> None:
        self.scratch = (address, size)

    def execute_async_v3(self, stream: int) -> bool:
        if "run" in self.engine.refuses:
            return False
        batch, addresses = self.batch, dict(self.addresses)

        def work() -> None:
            size = batch * int(np.prod(CROP))
            crops = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(addresses["crops"]))
            size = batch * int(np.prod(HEATMAP))
            for times, name in enumerate(self.engine.outputs, 1):
                maps = np.ctypeslib.as_array((ctypes.c_float * size).from_address(addresses[name]))
                maps[:] = times * heatmaps_of(crops.reshape(batch, *CROP)).ravel()

        callback = ctypes.CFUNCTYPE(None)(work)
        self.kept.append(callback)
        self.engine.library.fake_run(callback, ctypes.c_void_p(stream))
        return True


class FakeEngine:
    """What `ICudaEngine` says of an engine for crops of 8x6."""

    def __init__(self, library: ctypes.CDLL, refuses: set[str], kind: str = "FLOAT") -> None:
        self.library, self.refuses, self.kind = library, refuses, kind
        self.profiles = [(1, 1, 1), (1, 4, 8)]
        self.outputs = [
            "heatmaps",
            *({"two outputs": "output_1", "other outputs": "more"}[r] for r in refuses if "output" in r),
        ]
        self.names = [*self.outputs[::-1], "crops"]  # in no order that could be relied on
        self.contexts: list[Context] = []
        self.device_memory_size_v2 = 1024
        self.num_optimization_profiles, self.num_io_tensors = len(self.profiles), len(self.names)

    def get_tensor_name(self, i: int) -> str:
        return self.names[i]

    def get_tensor_mode(self, name: str) -> str:
        return "INPUT" if name == "crops" else "OUTPUT"

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=self.kind)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, *(CROP if name == "crops" else HEATMAP))

    def get_tensor_profile_shape(self, name: str, i: int) -> list[tuple[int, ...]]:
        return [(n, *CROP) for n in self.profiles[i]]

    def create_execution_context(self, strategy: str = "STATIC") -> Context | None:
        if "context" in self.refuses:
            return None
        assert strategy == "USER_MANAGED"
        self.contexts.append(Context(self))
        return self.contexts[-1]


def library_of(library: ctypes.CDLL, refuses: set[str] | None = None, kind: str = "FLOAT", rtx: bool = False) -> Any:
    """A module like `tensorrt`, whose only engine is a FakeEngine; `engine` is the last one that it loaded."""

    class ILogger:
        Severity = SimpleNamespace(ERROR=1, INTERNAL_ERROR=0)

    class Runtime:
        def __init__(self, messages: Any) -> None:
            self.messages = messages

        def deserialize_cuda_engine(self, plan: bytes) -> FakeEngine | None:
            if "plan" in (refuses or ()):
                self.messages.log(1, "the plan is of another GPU")
                return None
            module.engine = FakeEngine(library, refuses or set(), kind)
            return module.engine

    module = SimpleNamespace(
        __version__="10.9.0",
        ILogger=ILogger,
        Runtime=Runtime,
        TensorIOMode=SimpleNamespace(INPUT="INPUT"),
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="USER_MANAGED"),
    )
    if rtx:
        module.ComputeCapability = enum.IntEnum("ComputeCapability", {"NONE": 0, "SM86": 86, "SM89": 89})
    return module


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(files.CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Options]:
    """In place of the builder: what it was asked for."""
    asked: list[Options] = []

    def build(trt: Any, model: bytes, precision: str, options: Options, **rest: Any) -> Engine:
        asked.append(options)
        devices = options.targets or (rest["device"],)
        return engine_of(model, backend=builder.backend_of(trt), version=trt.__version__, devices=devices)

    monkeypatch.setattr(engine_session, "build", build)
    return asked


def engine_of(model: bytes = b"graph", plan: bytes = b"plan" * 100, **changes: Any) -> Engine:
    values: dict[str, Any] = {
        "model": hashlib.sha256(model).hexdigest(),
        "precision": "fp16",
        "backend": "tensorrt",
        "version": "10.9.0",
        "devices": ("Fake GPU",),
        "batch": ((1, 1, 1), (1, 4, 8)),
        "options": Options().recorded(),
        "layers": {"CONVOLUTION HALF": 3},
    }
    return Engine(EngineMetadata(**{**values, **changes}), plan)


def test_heatmaps_at_any_batch(fake_gpu: ctypes.CDLL, cache: Path, builds: list[Options]) -> None:
    trt = library_of(fake_gpu)
    session = engine_session.EngineSession(trt, b"graph", "fp16")
    crops = np.random.default_rng(0).integers(0, 256, (11, *CROP)).astype(np.uint8)
    for count in (1, 5, 11, 2):
        np.testing.assert_array_equal(session.infer(crops[:count])[0], heatmaps_of(crops[:count]))
    contexts = trt.engine.contexts
    # 11 is a run of 8 and one of 3 in 4; a batch of one takes the profile that is made for it
    assert [(c.batch, c.profile) for c in contexts] == [(1, 0), (8, 1), (4, 1), (2, 1)]
    assert len({c.scratch for c in contexts}) == 1 and contexts[0].scratch[1] == 1024


def test_an_engine_of_two_outputs(fake_gpu: ctypes.CDLL, cache: Path, builds: list[Options]) -> None:
    session = engine_session.EngineSession(library_of(fake_gpu, {"two outputs"}), b"graph", "fp16")
    crops = np.random.default_rng(0).integers(0, 256, (3, *CROP)).astype(np.uint8)
    first, second = session.infer(crops)
    np.testing.assert_array_equal(first, heatmaps_of(crops))
    np.testing.assert_array_equal(second, 2 * heatmaps_of(crops))


@pytest.mark.parametrize(
    ("refuses", "message"),
    [
        ("plan", "refused its engine .the plan is of another GPU.; rebuild it: posert compile BUNDLE"),
        (
            "other outputs",
            r"the outputs \['heatmaps', 'more'\]; expected one input and the outputs \['heatmaps', 'output_1'\]",
        ),
        ("context", "gives no context for batch 1"),
        ("profile", "gives no context for batch 1"),
        ("run", "could not run batch 1"),
    ],
)
def test_refusals(fake_gpu: ctypes.CDLL, cache: Path, builds: list[Options], refuses: str, message: str) -> None:
    with pytest.raises(BackendError, match=message):
        engine_session.EngineSession(library_of(fake_gpu, {refuses}), b"graph", "fp16").infer(
            np.zeros((1, *CROP), np.uint8)
        )


def test_heatmaps_of_another_type(fake_gpu: ctypes.CDLL, cache: Path, builds: list[Options]) -> None:
    with pytest.raises(BackendError, match="gives outputs of INT8; expected FLOAT or HALF"):
        engine_session.EngineSession(library_of(fake_gpu, kind="INT8"), b"graph", "fp16").infer(
            np.zeros((1, *CROP), np.uint8)
        )
    half = engine_session.EngineSession(library_of(fake_gpu, kind="HALF"), b"graph", "fp16")
    assert half.network.outputs(CROP) == ((HEATMAP,), np.float16)
    with pytest.raises(BackendError, match=r"takes crops \(8, 6, 3\), not \(8, 8, 3\)"):
        half.network.outputs((8, 8, 3))


def test_scratch_goes_with_its_stream(fake_gpu: ctypes.CDLL, cache: Path, builds: list[Options]) -> None:
    """An engine may need none: TensorRT 11, which has no other name for its size, then says 0."""
    trt = library_of(fake_gpu)
    session = engine_session.EngineSession(trt, b"graph", "fp16")
    trt.engine.device_memory_size_v2 = 0
    gc.collect()
    before = fake_gpu.fake_allocated()
    with session.device.active():
        stream = Stream()
        run = session.network.bind(1, 0, [0], stream)
        assert trt.engine.contexts[0].scratch[1] == 0
        del run, stream
    gc.collect()
    assert fake_gpu.fake_allocated() == before


def test_a_cache_that_cannot_be_written_is_told_before_the_build(
    fake_gpu: ctypes.CDLL, tmp_path: Path, builds: list[Options], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(files.CACHE, str(tmp_path / "file" / "cache"))
    with pytest.raises(BackendError, match="file is not a folder; choose another path, and set POSERT_CACHE to it"):
        engine_session.EngineSession(library_of(fake_gpu), b"graph", "fp16")
    assert not builds


def test_a_batch_that_no_profile_takes(fake_gpu: ctypes.CDLL, cache: Path, builds: list[Options]) -> None:
    session = engine_session.EngineSession(library_of(fake_gpu), b"graph", "fp16")
    with session.device.active(), pytest.raises(BackendError, match="batches of 1 to 1, 1 to 8, not 9.*--batch 1:8:9"):
        session.network.bind(9, 0, 0, None)  # type: ignore[arg-type]


def test_an_engine_is_built_once(fake_gpu: ctypes.CDLL, cache: Path, builds: list[Options]) -> None:
    trt = library_of(fake_gpu)
    for _ in range(3):
        engine_session.EngineSession(trt, b"graph", "fp16")
    assert len(builds) == 1 and len(list(cache.glob("*.engine"))) == 1
    engine_session.EngineSession(trt, b"another graph", "fp16")
    assert len(builds) == 2


@pytest.mark.parametrize(
    "made",
    [{"version": "10.8.0"}, {"devices": ("Another GPU",)}, {"backend": "tensorrt_rtx", "devices": ("sm_86",)}],
)
def test_stale_and_foreign_engines_are_left_alone(
    fake_gpu: ctypes.CDLL, cache: Path, builds: list[Options], made: dict[str, Any]
) -> None:
    engine = engine_of(**made)
    write_engine(cache / engine.metadata.file_name, engine)
    engine_session.EngineSession(library_of(fake_gpu), b"graph", "fp16")
    assert len(builds) == 1
    assert len(list(cache.glob("*.engine"))) == 2


def test_a_damaged_engine_is_rebuilt(fake_gpu: ctypes.CDLL, cache: Path, builds: list[Options]) -> None:
    """What else can be wrong with one: test_sidecar.py."""
    engine = engine_of()
    path = cache / engine.metadata.file_name
    write_engine(path, engine)
    path.write_bytes(path.read_bytes()[:-1])
    engine_session.EngineSession(library_of(fake_gpu), b"graph", "fp16")
    assert len(builds) == 1 and len(read_engine(path).plan) == len(engine.plan)


def test_the_newest_engine_is_taken(cache: Path) -> None:
    engines = [engine_of(plan=bytes([i]) * 10, batch=((1, i + 1, 9),)) for i in range(3)]
    for i, engine in enumerate(engines):
        path = cache / engine.metadata.file_name
        write_engine(path, engine)
        os.utime(path, (1e9 - i, 1e9 - i))
    found = [find_engine(engines[0].metadata.model, lambda metadata: None)]
    found.append(find_engine(engines[0].metadata.model, lambda metadata: "no" if metadata.batch[0][1] == 1 else None))
    assert found == engines[:2]
    assert find_engine(engines[0].metadata.model, lambda metadata: "no") is None
    assert find_engine("0" * 64, lambda metadata: None) is None


def test_an_engine_of_another_name_is_found(cache: Path) -> None:
    """One that was compiled elsewhere is copied into the cache under any name."""
    engine = engine_of()
    write_engine(cache / "net.tensorrt.sm86.fp16.engine", engine)
    assert find_engine(engine.metadata.model, lambda metadata: None) == engine


@pytest.mark.parametrize(
    ("changes", "runs"),
    [
        ({"version": "10.8.1", "options": {"version_compatible": True}}, True),
        ({"version": "10.10.1", "options": {"version_compatible": True}}, False),
        ({"devices": ("NVIDIA L4",), "options": {"compatibility": "ampere_plus"}}, True),
        ({"devices": ("x",), "options": {"compatibility": "same_compute_capability"}, "architecture": "sm86"}, True),
        ({"devices": ("x",), "options": {"compatibility": "same_compute_capability"}, "architecture": "sm89"}, False),
        ({"devices": ("x",), "options": {"compatibility": "none"}, "architecture": "sm86"}, False),
    ],
)
def test_engines_that_were_built_to_run_elsewhere(fake_gpu: ctypes.CDLL, changes: dict[str, Any], runs: bool) -> None:
    reason = engine_session.misfit(library_of(fake_gpu), engine_of(**changes).metadata, Device())
    assert (reason is None) == runs


def test_tensorrt_rtx_builds_for_this_gpu_and_knows_which_it_runs_on(
    fake_gpu: ctypes.CDLL, cache: Path, builds: list[Options]
) -> None:
    trt = library_of(fake_gpu, rtx=True)
    assert engine_session.unavailable(trt) is None
    engine_session.EngineSession(trt, b"graph", "fp16")
    assert builds[0].targets == ("sm86",)
    fake_gpu.fake_set(CAPABILITY, 90)
    with pytest.raises(BackendError, match="runs on sm86, sm89; this GPU is sm90. Use TensorRT: --backend tensorrt"):
        engine_session.EngineSession(trt, b"graph", "fp16")
    assert engine_session.unavailable(library_of(fake_gpu)) is None


@pytest.mark.parametrize(("release", "seen"), [("8.6.2", "8.6"), ("10.0.1", "10.0")])
def test_an_old_tensorrt_is_refused(fake_gpu: ctypes.CDLL, release: str, seen: str) -> None:
    trt = library_of(fake_gpu)
    trt.__version__ = release
    message = f"TensorRT {seen} is too old: posert needs 10.1 or later (JetPack 6.1)"
    assert engine_session.unavailable(trt) == message
    with pytest.raises(BackendError, match=re.escape(message)):
        engine_session.EngineSession(trt, b"graph", "fp16")


def test_tensorrt_rtx_keeps_what_it_compiles(
    fake_gpu: ctypes.CDLL, cache: Path, builds: list[Options], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library compiles kernels as an engine starts; the next process finds them."""
    offered: list[bytes] = []
    used: list[Kept] = []

    class Kept:
        def __init__(self) -> None:
            self.kernels = b""

        def deserialize(self, data: bytes) -> bool:
            offered.append(data)
            self.kernels = data
            return data != b"of another driver"

        def serialize(self) -> bytes:
            return b"compiled"

    config = SimpleNamespace(
        create_runtime_cache=Kept,
        set_runtime_cache=used.append,
        set_execution_context_allocation_strategy=lambda strategy: None,
    )

    def create_execution_context(engine: FakeEngine, given: Any) -> Context:
        assert given is config and given.dynamic_shapes_kernel_specialization_strategy == "EAGER"
        engine.contexts.append(Context(engine))
        return engine.contexts[-1]

    monkeypatch.setattr(FakeEngine, "create_runtime_config", lambda engine: config, raising=False)
    monkeypatch.setattr(FakeEngine, "create_execution_context", create_execution_context)
    trt = library_of(fake_gpu, rtx=True)
    trt.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="EAGER")
    crops = np.zeros((1, *CROP), np.uint8)
    engine_session.EngineSession(trt, b"graph", "fp16").infer(crops)
    (kept,) = cache.glob("*.compiled")
    assert kept.read_bytes() == b"compiled" and not offered and len(used) == 1
    session = engine_session.EngineSession(trt, b"graph", "fp16")
    session.infer(crops)
    session.infer(np.zeros((4, *CROP), np.uint8))
    assert offered == [b"compiled"] and used[1] is used[2]  # read once, shared by all contexts
    kept.write_bytes(b"of another driver")
    engine_session.EngineSession(trt, b"graph", "fp16").infer(crops)
    assert kept.read_bytes() == b"compiled"


def test_a_driver_is_looked_for_before_the_library_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT's runtime crashes without one."""
    monkeypatch.setattr(engine_session, "missing", lambda: "no driver here")
    with pytest.raises(BackendError, match="no driver here"):
        engine_session.EngineSession(SimpleNamespace(), b"graph", "fp16")


def test_a_version_compatible_engine_may_bring_its_code(fake_gpu: ctypes.CDLL, cache: Path) -> None:
    trt = library_of(fake_gpu)
    session = engine_session.EngineSession(trt, b"", "fp16", engine_of(options={"version_compatible": True}))
    assert session.network._runtime.engine_host_code_allowed is True
    session = engine_session.EngineSession(trt, b"", "fp16", engine_of())
    assert not hasattr(session.network._runtime, "engine_host_code_allowed")


def test_engines_are_timed_at_the_batch_that_they_were_made_for(
    fake_gpu: ctypes.CDLL, cache: Path, builds: list[Options]
) -> None:
    trt = library_of(fake_gpu)
    found = autotune.times(trt, {"fp16": b"half", "int8": b"eighth"})
    assert found.keys() == {"fp16", "int8"} and all(ms >= 0 for ms in found.values())
    assert [c.batch for c in trt.engine.contexts] == [4]
    (path,) = cache.glob("*.times")
    kept = json.loads(path.read_text())
    assert (kept["ms"], kept["device"], kept["library"]) == (found, "Fake GPU", "TensorRT 10.9.0")


@pytest.fixture
def stopwatch(monkeypatch: pytest.MonkeyPatch) -> list[list[float]]:
    """In place of the GPU's clock: what the next engines take, one after the other."""
    clock: list[list[float]] = []

    def prepared(session: engine_session.EngineSession) -> Callable[[], list[float]]:
        ms = clock.pop(0)
        return lambda: ms

    monkeypatch.setattr(autotune, "_prepared", prepared)
    return clock


def test_engines_are_timed_once(
    fake_gpu: ctypes.CDLL, cache: Path, builds: list[Options], stopwatch: list[list[float]]
) -> None:
    trt, graphs = library_of(fake_gpu), {"fp16": b"half", "int8": b"eighth"}
    stopwatch[:] = [[2.0, 9.0, 2.1], [3.0, 1.0, 3.1]]  # medians decide, not the best run
    for _ in range(2):
        assert autotune.times(trt, graphs) == {"fp16": 2.1, "int8": 3.0}
    assert len(builds) == 2 and not stopwatch
    # other graphs are other engines
    stopwatch[:] = [[1.0], [1.5]]
    assert autotune.times(trt, {**graphs, "int8": b"another"}) == {"fp16": 1.0, "int8": 1.5}
    assert len(builds) == 3


def test_an_engine_that_cannot_be_built_is_left_out(
    fake_gpu: ctypes.CDLL,
    cache: Path,
    builds: list[Options],
    stopwatch: list[list[float]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once: the next start does not try again."""
    trt, tried, build = library_of(fake_gpu), list[bytes](), engine_session.build

    def some(trt: Any, model: bytes, *rest: Any, **more: Any) -> Engine:
        tried.append(model)
        if model == b"eighth":
            raise BackendError("no kernel fits")
        return build(trt, model, *rest, **more)

    monkeypatch.setattr(engine_session, "build", some)
    stopwatch[:] = [[2.0]]
    for _ in range(2):
        assert autotune.times(trt, {"fp16": b"half", "int8": b"eighth"}) == {"fp16": 2.0}
    assert tried == [b"half", b"eighth"]
    with pytest.raises(BackendError, match="no kernel fits"):
        autotune.times(trt, {"int8": b"eighth"})


@pytest.mark.parametrize(
    "damage", ["engine rebuilt", "engine gone", "no JSON", "no ms", "another precision", "no precision"]
)
def test_times_that_hold_no_longer(
    fake_gpu: ctypes.CDLL, cache: Path, builds: list[Options], stopwatch: list[list[float]], damage: str
) -> None:
    trt, graphs = library_of(fake_gpu), {"fp16": b"half", "int8": b"eighth"}
    damages = {"no JSON": "{", "no ms": "{}", "another precision": '{"ms": {"fp8": 1}}', "no precision": '{"ms": {}}'}
    stopwatch[:] = [[2.0], [3.0], [5.0], [4.0]]
    autotune.times(trt, graphs)
    (path,), engine = cache.glob("*.times"), sorted(cache.glob("*.engine"))[0]
    if damage == "engine rebuilt":
        later = path.stat().st_mtime_ns + 10**9
        os.utime(engine, ns=(later, later))
    elif damage == "engine gone":
        engine.unlink()
    else:
        path.write_text(damages[damage])
    assert autotune.times(trt, graphs) == {"fp16": 5.0, "int8": 4.0}


@pytest.mark.parametrize(
    ("verdicts", "ms", "expected"),
    [
        ({"fp16": "passed", "int8_gpu": "passed"}, {"fp16": 2.0, "int8": 1.5}, "int8"),
        ({"fp16": "passed", "int8_gpu": "passed"}, {"fp16": 1.0, "int8": 1.5}, "fp16"),
        ({"fp16": "passed", "int8_gpu": "failed"}, None, "fp16"),
        ({"fp16": "failed", "int8_gpu": "passed"}, None, "int8"),
        ({"fp16": "unproven", "int8_gpu": "unproven"}, None, "fp32"),
    ],
)
def test_the_faster_that_passed_the_gate_is_taken(
    monkeypatch: pytest.MonkeyPatch, verdicts: dict[str, str], ms: dict[str, float] | None, expected: str
) -> None:
    timed: list[dict[str, bytes]] = []

    def times(graphs: dict[str, bytes]) -> dict[str, float]:
        timed.append(graphs)
        assert ms is not None
        return ms

    precisions = {"fp16": "fp16", "int8": "int8_gpu", "fp32": "fp32"}
    spec = Backend("tensorrt", "tensorrt", precisions, open=lambda *_: None, autotune=times)  # type: ignore[arg-type, return-value]
    monkeypatch.setattr(selection, "load_backend", lambda name: spec)
    rows = [{"verdict": "reference", "backend": "pytorch", "precision": "fp32"}]
    rows += [
        {"verdict": v, "backend": "onnxruntime", "precision": a, "artifact": a}
        for a, v in {**verdicts, "fp32": "passed" if ms else "unproven"}.items()
    ]
    bundle = SimpleNamespace(
        name="a bundle",
        artifacts={a: SimpleNamespace(name=a, precision=a.split("_")[0]) for a in ("fp32", "fp16", "int8_gpu")},
        accuracy={"rows": rows},
        read=lambda artifact: artifact.name.encode(),
    )
    found = selection.select(bundle, "tensorrt")  # type: ignore[arg-type]
    assert (found.backend, found.precision) == ("tensorrt", expected)
    assert timed == ([{"fp16": b"fp16", "int8": b"int8_gpu"}] if ms else [])
    if ms:
        assert f"int8 {ms['int8']:.2f} ms" in found.reason


def test_an_engine_from_a_file(fake_gpu: ctypes.CDLL, cache: Path, builds: list[Options]) -> None:
    session = engine_session.EngineSession(library_of(fake_gpu), b"", "fp16", engine_of())
    crops = np.random.default_rng(2).integers(0, 256, (3, *CROP)).astype(np.uint8)
    np.testing.assert_array_equal(session.infer(crops)[0], heatmaps_of(crops))
    assert not builds


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": ((8, 4, 32),)}, "batch 8:4:32: expected MIN:BEST:MAX"),
        ({"batch": ((0, 4, 32),)}, "batch 0:4:32"),
        ({"batch": ((1, 2),)}, "batch 1:2"),
        ({"batch": ()}, "at least one range"),
    ],
)
def test_options_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BackendError, match=message):
        Options(**changes)


CONTRACT = Contract("two", ("a", "b"), ((0, 1),), (), (), width=6, height=8, heatmap_width=3, heatmap_height=2)


@pytest.fixture
def engine_file(fake_gpu: ctypes.CDLL, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An engine with its sidecar, and TensorRT to run it: "net.tensorrt.sm86.fp16.engine"."""
    trt = library_of(fake_gpu)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    crops = np.random.default_rng(3).integers(0, 256, (2, *CROP)).astype(np.uint8)
    origin = Origin(
        name="net-two-8x6",
        model={"arch": "net", "dataset": "two"},
        contract=CONTRACT,
        artifact=Artifact("fp16", "onnx", "fp16.onnx", "0" * 64, 5, "fp16", 19, golden_error=1e-3),
        accuracy={"verdict": "passed", "rows": []},
        golden=Golden(crops, (heatmaps_of(crops),)),
    )
    path = tmp_path / "net.tensorrt.sm86.fp16.engine"
    write_engine(path, replace(engine_of(), origin=origin))
    return path


def test_an_engine_file_in_place_of_a_bundle(engine_file: Path, builds: list[Options]) -> None:
    frame = np.random.default_rng(4).integers(0, 256, (40, 30, 3)).astype(np.uint8)
    boxes = [[3, 4, 20, 30], [0, 0, 29, 39]]
    pose = PoseEstimator(engine_file)
    assert repr(pose) == "PoseEstimator('net-two-8x6', tensorrt fp16)"

    class OnCpu:
        def infer(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32]]:
            return (heatmaps_of(crops),)

    expected = PoseEstimator.from_session(CONTRACT, OnCpu(), Selection("cpu", "fp16", ""))(frame, boxes)
    found = pose(frame, boxes)
    np.testing.assert_array_equal(found.xy, expected.xy)
    np.testing.assert_array_equal(found.score, expected.score)
    with EngineFile(engine_file) as opened:
        np.testing.assert_array_equal(PoseEstimator(opened)(frame, boxes).xy, expected.xy)
    assert not builds


def test_the_commands_take_an_engine_file(
    engine_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(engine_file)]) == 0
    assert "tensorrt     fp16" in capsys.readouterr().out
    assert main(["verify", str(engine_file), "--backend", "tensorrt", "--precision", "fp16", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["passed"] and row["error"] == 0
    assert main(["inspect", str(engine_file)]) == 0
    told = capsys.readouterr().out
    assert "fp16 by tensorrt 10.9.0 for Fake GPU, batch 1:1:1, 1:4:8" in told and "3 CONVOLUTION HALF" in told
    assert main(["inspect", str(engine_file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["contract"]["width"] == 6
    cv2.imwrite(str(tmp_path / "frame.png"), np.zeros((40, 30, 3), np.uint8))
    arguments = ["run", str(engine_file), str(tmp_path / "frame.png"), "--output", str(tmp_path / "out.json")]
    assert main(arguments) == 0
    assert "tensorrt fp16: the engine that was given" in capsys.readouterr().err
    assert main([*arguments, "--precision", "int8"]) == 2
    assert "runs on tensorrt in fp16, not as asked" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"version": "10.8.0"},
            "it was built by tensorrt 10.8.0; this is TensorRT 10.9.0. Rebuild it for this machine",
        ),
        ({"devices": ("NVIDIA L4",)}, "it was built on NVIDIA L4; this is Fake GPU. Rebuild it for this machine"),
        ({"backend": "openvino"}, "is of the backend openvino, which runs no engine files"),
        ({"backend": "nosuch"}, "unknown backend 'nosuch'"),
    ],
)
def test_engine_files_that_cannot_run_here(engine_file: Path, changes: dict[str, Any], message: str) -> None:
    engine = read_engine(engine_file)
    write_engine(engine_file, replace(engine, metadata=replace(engine.metadata, **changes)))
    with pytest.raises(BackendError, match=re.escape(message)):
        PoseEstimator(engine_file)


def test_an_engine_that_failed_the_gate_says_so(engine_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = read_engine(engine_file)
    assert engine.origin is not None
    accuracy = {"verdict": "failed", "rows": []}
    write_engine(engine_file, replace(engine, origin=replace(engine.origin, accuracy=accuracy)))
    assert "although it failed" in PoseEstimator(engine_file).selection.reason
    assert "failed the accuracy gate" in caplog.text
