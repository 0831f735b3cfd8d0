"""From an ONNX graph to an engine, with TensorRT 10.1 or later or TensorRT-RTX.

The types are in the graph (casts, Q/DQ), the network is strongly typed, and the builder gets no precision flags.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import BackendError
from ..system.files import atomic_write, cache_folder
from ..system.machine import free_memory
from .sidecar import Engine, EngineMetadata

log = logging.getLogger("posert")
Progress = Callable[[str, int, int], None]
"""Called with the name of a phase, its step and how many steps it has."""

_OLDEST = (10, 1)  # the first TensorRT with the names for an engine's scratch memory that TensorRT 11 has too
_TURING_FLOAT32 = ". Turing has no float32 matrix products here: leave sm75 out of --target, or build --precision fp16"
# Resident memory of a build, as bytes for the library and bytes per byte of the graph. Measured for TensorRT-RTX 1.7
# (docs/gpu.md), with a margin; TensorRT keeps several kernels' weights at a time and was not measured.
_BUILD_MEMORY = {"tensorrt_rtx": (500 << 20, 5), "tensorrt": (1500 << 20, 10)}


@dataclass(frozen=True)
class Options:
    """How an engine is built. None leaves a setting to the library.

    Attributes:
        batch: optimisation profiles, (smallest, best, largest) batch each; several narrow ones make faster engines
            than a wide one and take longer to build.
        workspace: bytes of scratch memory on the GPU that layers may use.
        targets: GPUs to build for, such as "sm89"; TensorRT-RTX only, which needs none of them here.
        compatibility: TensorRT only: "none", "ampere_plus" or "same_compute_capability", for an engine that also runs
            on other GPUs than this one, more slowly.
        version_compatible: TensorRT only: an engine that later releases can run, more slowly.
    """

    batch: tuple[tuple[int, int, int], ...] = ((1, 8, 32),)
    workspace: int | None = None
    targets: tuple[str, ...] = ()
    compatibility: str = "none"
    version_compatible: bool = False

    def __post_init__(self) -> None:
        for profile in self.batch:
            if len(profile) != 3 or not 1 <= profile[0] <= profile[1] <= profile[2]:
                raise BackendError(f"batch {':'.join(map(str, profile))}: expected MIN:BEST:MAX, ascending from 1 up")
        if not self.batch:
            raise BackendError("an engine needs at least one range of batch sizes, such as 1:8:32")

    def recorded(self) -> dict[str, Any]:
        """The options for the engine's metadata, where `batch` and `targets` (its devices) are fields of their own."""
        return {name: value for name, value in asdict(self).items() if name not in ("batch", "targets")}


def backend_of(trt: Any) -> str:
    """ "tensorrt" or "tensorrt_rtx"."""
    return "tensorrt_rtx" if hasattr(trt, "ComputeCapability") else "tensorrt"


def too_old(version: str) -> str | None:
    """Why a release of TensorRT cannot be used, None where it can."""
    major, minor = version.split(".")[:2]
    if (int(major), int(minor)) >= _OLDEST:
        return None
    return f"TensorRT {major}.{minor} is too old: posert needs {'.'.join(map(str, _OLDEST))} or later (JetPack 6.1)"


def build(
    trt: Any,
    model: bytes,
    precision: str,
    options: Options | None = None,
    *,
    timing_cache: Path | None = None,
    device: str | None = None,
    architecture: str = "",
    progress: Progress | None = None,
) -> Engine:
    """Compile an ONNX graph.

    TensorRT times kernels on the GPU of this machine. TensorRT-RTX needs neither GPU nor driver, and its engine runs on
    all targets.

    Args:
        trt: the library's module.
        model: the graph, with a dynamic batch as its first axis.
        precision: of the graph, for the engine's metadata.
        timing_cache: TensorRT only: file of kernel timings, created or extended.
        device: name of this machine's GPU; None where there is none.
        architecture: of this machine's GPU, such as "sm89".

    Raises:
        BackendError: the library refused the graph or an option, or this machine has too little memory.
    """
    options = options or Options()
    _check_memory(memory_needed(trt, len(model)))
    messages = messages_of(trt)
    builder = trt.Builder(messages)
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    # On by default; it rounds the factors of a float32 convolution to 10 bits: another precision than was asked for.
    config.clear_flag(trt.BuilderFlag.TF32)
    _set(config, trt, options)
    if progress is not None:
        config.progress_monitor = _monitor(trt, progress)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, messages)
    if not parser.parse(model):
        errors = "\n".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise BackendError(f"{title(trt)} refused the {precision} graph: {errors or messages.text()}")
    for profile in options.batch:
        config.add_optimization_profile(_profile(builder, network, profile))
    timed = b""
    keeps_times = timing_cache is not None and backend_of(trt) == "tensorrt" and _take_timings(config, timing_cache)
    start = time.perf_counter()
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        mend = _TURING_FLOAT32 if "FP32 GEMM is not supported" in messages.text() else ""
        raise BackendError(f"{title(trt)} could not build the {precision} engine: {messages.text()}{mend}")
    log.info("%s: %s engine in %.1f s", title(trt), precision, time.perf_counter() - start)
    if timing_cache is not None and keeps_times:
        timed = bytes(config.get_timing_cache().serialize())
        with atomic_write(timing_cache) as file:
            file.write(timed)
    metadata = EngineMetadata(
        model=hashlib.sha256(model).hexdigest(),
        precision=precision,
        backend=backend_of(trt),
        version=str(trt.__version__),
        devices=_devices(trt, options, device),
        batch=options.batch,
        options=options.recorded(),
        layers=audit(network),
        timing_cache=hashlib.sha256(timed).hexdigest() if timed else "",
        architecture=architecture if backend_of(trt) == "tensorrt" else "",  # of TensorRT-RTX `devices` has them
    )
    return Engine(metadata, bytes(plan))


def _take_timings(config: Any, path: Path) -> bool:
    """Let a build use and extend the timings of earlier builds, unless they are damaged or of another driver."""
    for data in (path.read_bytes() if path.exists() else b"", b""):
        cache = config.create_timing_cache(data)
        if cache is not None and config.set_timing_cache(cache, False):
            return True
        log.info("%s is of another driver or release, or damaged, and is replaced", path)
    return False


def audit(network: Any) -> dict[str, int]:
    """How many layers of each type and output type a parsed network has, such as {"CONVOLUTION HALF": 51}.

    A convolution or matrix product of dequantised int8 data and weights, which the builder computes in int8, is counted
    apart: {"CONVOLUTION HALF of INT8": 51}.
    """
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    dequantized = {layer.get_output(0).name for layer in layers if layer.type.name == "DEQUANTIZE"}
    # The parser gives a matrix the rank of what it is multiplied by.
    dequantized |= {
        layer.get_output(0).name
        for layer in layers
        if layer.type.name == "SHUFFLE" and layer.get_input(0).name in dequantized
    }

    def kind(layer: Any) -> str:
        name = f"{layer.type.name} {layer.get_output(0).dtype.name}"
        if layer.type.name not in ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY"):
            return name
        inputs = [layer.get_input(k) for k in range(layer.num_inputs)]
        read = [tensor is not None and tensor.name in dequantized for tensor in inputs[:2]]
        return f"{name} of INT8" if read == [True, True] else name

    return dict(sorted(Counter(map(kind, layers)).items()))


def targets_of(trt: Any) -> dict[str, Any]:
    """GPUs that this TensorRT-RTX can build for, as "sm89"."""
    return {n.lower(): v for n, v in trt.ComputeCapability.__members__.items() if n.startswith("SM")}


def timing_file(trt: Any, device: str) -> Path:
    """File of the timings of a GPU's kernels, which make later builds quick and repeatable."""
    return cache_folder() / f"{device.replace(' ', '_')}-{trt.__version__}.timing"


def _devices(trt: Any, options: Options, device: str | None) -> tuple[str, ...]:
    if backend_of(trt) == "tensorrt":
        return (device or "unknown",)
    # Named ones, else what the library builds for by default: Ampere and later.
    return options.targets or tuple(t for t in targets_of(trt) if t != "sm75")


def _set(config: Any, trt: Any, options: Options) -> None:
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if backend_of(trt) == "tensorrt_rtx":
        if options.compatibility != "none" or options.version_compatible:
            raise BackendError(
                "TensorRT-RTX has no compatibility and version_compatible: its engines run on all their targets"
            )
        known = targets_of(trt)
        unknown = [t for t in options.targets if t not in known]
        if unknown:
            raise BackendError(f"TensorRT-RTX builds for {', '.join(known)}, not for {', '.join(unknown)}")
        if options.targets:
            config.num_compute_capabilities = len(options.targets)
        for i, target in enumerate(options.targets):
            config.set_compute_capability(known[target], i)
        # Our CUDA graph holds the engine's work, so it must not allocate while it runs.
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
        return
    if options.targets:
        raise BackendError("TensorRT builds for the GPU of this machine; targets are for --backend tensorrt_rtx")
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    levels = {n.lower(): v for n, v in trt.HardwareCompatibilityLevel.__members__.items()}
    if options.compatibility not in levels:
        raise BackendError(f"this TensorRT has the compatibilities {', '.join(levels)}, not {options.compatibility!r}")
    config.hardware_compatibility_level = levels[options.compatibility]


def _profile(builder: Any, network: Any, batch: tuple[int, int, int]) -> Any:
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        shape = tuple(tensor.shape)
        if shape[0] != -1 or -1 in shape[1:]:
            raise BackendError(f"input {tensor.name} is {shape}: expected a dynamic batch and else fixed sizes")
        profile.set_shape(tensor.name, *((n, *shape[1:]) for n in batch))
    return profile


def _monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # a base class known at run time only
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.steps[phase_name] = num_steps
            progress(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress(phase_name, step + 1, self.steps[phase_name])
            return True

        def phase_finish(self, phase_name: str) -> None:
            progress(phase_name, self.steps[phase_name], self.steps[phase_name])

    return Monitor()


def messages_of(trt: Any) -> Any:
    """A logger that keeps the library's errors, because its functions do not raise them."""

    class Messages(trt.ILogger):  # type: ignore[misc]  # a base class known at run time only
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)
            log.debug("%s: %s", severity, message)

        def text(self) -> str:
            return "; ".join(self.errors[-3:]) or "no reason was given"

    return Messages()


def memory_needed(trt: Any, size: int) -> int:
    """Approximate bytes of the host's memory for building the engine of a graph of `size` bytes."""
    floor, factor = _BUILD_MEMORY[backend_of(trt)]
    return floor + factor * size


def _check_memory(need: int) -> None:
    """Refuse before the kernel's out-of-memory killer does."""
    free = free_memory()
    if free is not None and free < need:
        raise BackendError(
            f"building this engine takes about {need / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free: close "
            "something, add swap, or build it on another machine and copy the .engine file and its .json"
        )


def title(trt: Any) -> str:
    """ "TensorRT 10.3.0": the library and its release."""
    return f"{'TensorRT-RTX' if backend_of(trt) == 'tensorrt_rtx' else 'TensorRT'} {trt.__version__}"
