"""Engines of TensorRT and TensorRT-RTX on the GPU."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..bundle.archive import output_names
from ..cuda.driver import Device, Memory, Stream
from ..cuda.library import missing
from ..cuda.session import GpuSession
from ..errors import BackendError, InputError
from ..system.files import CACHE, atomic_write, cache_folder, check_writable
from .builder import Options, backend_of, build, messages_of, targets_of, timing_file, title, too_old
from .cache import find_engine
from .sidecar import Engine, EngineMetadata, write_engine

log = logging.getLogger("posert")


class EngineNetwork:
    """An engine on the GPU, see `posert.runtime.cuda.network.Network`.

    Each batch size has an execution context of its own, which a CUDA graph can hold; the contexts of a stream share one
    scratch buffer. TensorRT-RTX compiles kernels when an engine starts; the file `compiled` keeps those that still hold
    for later starts.
    """

    capturable = True

    def __init__(self, trt: Any, engine: Engine, compiled: Path) -> None:
        self._compiled, self._compiled_size = compiled, 0
        self._compiled_kernels: Any = None
        self._trt, self._messages = trt, messages_of(trt)
        self._runtime = trt.Runtime(self._messages)
        if engine.metadata.options.get("version_compatible"):
            self._runtime.engine_host_code_allowed = True  # such an engine holds host code; the file was checked
        self._engine = self._runtime.deserialize_cuda_engine(engine.plan)
        if self._engine is None:
            raise BackendError(
                f"{title(trt)} refused its engine ({self._messages.text()}); rebuild it: posert compile BUNDLE "
                f"--backend {backend_of(trt)}"
            )
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        inputs = [n for n in names if self._engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        outputs = set(names) - set(inputs)
        self._outputs = output_names(len(outputs))
        if len(inputs) != 1 or outputs != set(self._outputs):
            raise BackendError(
                f"the engine has the inputs {inputs} and the outputs {sorted(outputs)}; expected one input and the "
                f"outputs {self._outputs}"
            )
        self._input = inputs[0]
        self.crop = tuple(self._engine.get_tensor_shape(self._input))[1:]
        self._profiles = [
            tuple(shape[0] for shape in self._engine.get_tensor_profile_shape(self._input, i))
            for i in range(self._engine.num_optimization_profiles)
        ]
        self.largest = max(profile[2] for profile in self._profiles)
        self.best = max(profile[1] for profile in self._profiles)
        self._scratch: WeakKeyDictionary[Stream, Memory] = WeakKeyDictionary()

    def outputs(self, crop: tuple[int, ...]) -> tuple[tuple[tuple[int, ...], ...], np.dtype[Any]]:
        """See `Network.outputs`."""
        if crop != self.crop:
            raise BackendError(f"the engine takes crops {self.crop}, not {crop}")
        kinds = {self._engine.get_tensor_dtype(name).name for name in self._outputs}
        if kinds not in ({"FLOAT"}, {"HALF"}):
            raise BackendError(f"the engine gives outputs of {', '.join(sorted(kinds))}; expected FLOAT or HALF")
        shapes = tuple([tuple(self._engine.get_tensor_shape(name))[1:] for name in self._outputs])
        return shapes, np.dtype(np.float32 if kinds == {"FLOAT"} else np.float16)

    def bind(self, batch: int, crops: int, outputs: Sequence[int], stream: Stream) -> Callable[[], None]:
        """See `Network.bind`."""
        trt = self._trt
        profile = self._profile_of(batch)
        context = self._context()
        if context is None or not context.set_optimization_profile_async(profile, stream.address):
            raise BackendError(f"{title(trt)} gives no context for batch {batch}: {self._messages.text()}")
        stream.synchronize()
        placed = context.set_input_shape(self._input, (batch, *self.crop))
        addresses = zip((self._input, *self._outputs), (crops, *outputs), strict=True)
        if not (placed and all(context.set_tensor_address(name, address) for name, address in addresses)):
            raise BackendError(f"{title(trt)} does not take batch {batch}: {self._messages.text()}")
        self._give_scratch(context, stream)

        started = False

        def run() -> None:
            nonlocal started
            if not context.execute_async_v3(stream.address):
                raise BackendError(f"{title(trt)} could not run batch {batch}: {self._messages.text()}")
            if not started:
                started = True
                self._keep_compiled()

        return run

    def _profile_of(self, batch: int) -> int:
        """The profile whose best batch is nearest, of those that take this batch."""
        fitting = [i for i, (low, _, high) in enumerate(self._profiles) if low <= batch <= high]
        if not fitting:
            ranges = ", ".join(f"{low} to {high}" for low, _, high in self._profiles)
            raise BackendError(f"the engine takes batches of {ranges}, not {batch}: posert compile --batch 1:8:{batch}")
        return min(fitting, key=lambda i: abs(self._profiles[i][1] - batch))

    def _context(self) -> Any:
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if backend_of(self._trt) == "tensorrt":
            return self._engine.create_execution_context(strategy)
        runtime_config = self._engine.create_runtime_config()
        runtime_config.set_execution_context_allocation_strategy(strategy)
        # compile for the bound shape now, not in the background while a graph is captured
        eager = self._trt.DynamicShapesKernelSpecializationStrategy.EAGER
        runtime_config.dynamic_shapes_kernel_specialization_strategy = eager
        if self._compiled_kernels is None:
            self._compiled_kernels = runtime_config.create_runtime_cache()
            # refused where driver, GPU or release have changed: then all kernels are compiled again
            if self._compiled.exists() and not self._compiled_kernels.deserialize(self._compiled.read_bytes()):
                log.info("%s is of another driver or GPU and is replaced", self._compiled)
        runtime_config.set_runtime_cache(self._compiled_kernels)
        return self._engine.create_execution_context(runtime_config)

    def _keep_compiled(self) -> None:
        if self._compiled_kernels is None:
            return
        data = bytes(self._compiled_kernels.serialize())
        if len(data) != self._compiled_size:
            self._compiled_size = len(data)
            with atomic_write(self._compiled) as file:
                file.write(data)

    def _give_scratch(self, context: Any, stream: Stream) -> None:
        """One buffer for all batch sizes of a stream, which run one after the other: a graph keeps its address."""
        if stream not in self._scratch:
            self._scratch[stream] = Memory(int(self._engine.device_memory_size_v2))
        scratch = self._scratch[stream]
        context.set_device_memory(scratch.address, scratch.size)


class EngineSession(GpuSession):
    """An engine from arrays to arrays, see `backends.Session`."""

    network: EngineNetwork

    def __init__(self, trt: Any, model: bytes, precision: str, engine: Engine | None = None) -> None:
        """Open the engine of a graph; with `engine` that one."""
        if reason := unavailable(trt):  # before the library is touched: without a driver its runtime crashes
            raise BackendError(reason)
        device = Device()
        if engine is not None and (reason := misfit(trt, engine.metadata, device)):
            raise BackendError(f"the engine cannot run here: {reason}")
        with device.active():
            engine = engine or _cached_engine(trt, model, precision, device)
            compiled = cache_folder() / f"{engine.metadata.file_name}.{device.name.replace(' ', '_')}.compiled"
            super().__init__(EngineNetwork(trt, engine, compiled), device)


def unavailable(trt: Any) -> str | None:
    """Why this machine cannot run the library's engines; None where it can."""
    if reason := missing():
        return reason
    if backend_of(trt) == "tensorrt":
        return too_old(str(trt.__version__))
    major, minor = Device().capability
    if f"sm{major}{minor}" in targets_of(trt):
        return None
    return (
        f"TensorRT-RTX {trt.__version__} runs on {', '.join(targets_of(trt))}; this GPU is sm{major}{minor}. Use "
        "TensorRT: --backend tensorrt"
    )


def misfit(trt: Any, found: EngineMetadata, device: Device) -> str | None:
    """Why an engine cannot run with this library on this GPU; None where it can, or where the library has to say."""
    release, here = found.version, str(trt.__version__)
    if found.backend != backend_of(trt) or (release != here and not _later(found, here)):
        return f"it was built by {found.backend} {release}; this is {title(trt)}"
    if found.backend == "tensorrt_rtx":
        target = architecture(device)
        return None if target in found.devices else f"it was built for {', '.join(found.devices)}; this is {target}"
    others = {
        "ampere_plus": device.capability >= (8, 0),
        "same_compute_capability": found.architecture == architecture(device),
    }
    if found.devices == (device.name,) or others.get(found.options.get("compatibility", "none")):
        return None
    return f"it was built on {found.devices[0]}; this is {device.name}"


def _later(found: EngineMetadata, here: str) -> bool:
    """Whether this release runs an engine that was built to run on later ones than its own too."""
    releases = [[int(n) for n in release.split(".")[:2]] for release in (found.version, here)]
    return bool(found.options.get("version_compatible")) and releases[0] <= releases[1]


def architecture(device: Device) -> str:
    """Of a GPU, as TensorRT-RTX names its targets: "sm89"."""
    return "sm{}{}".format(*device.capability)


def _cached_engine(trt: Any, model: bytes, precision: str, device: Device) -> Engine:
    """The engine of a graph for this machine's GPU, from the cache, or built now and put there."""
    name, target = device.name, architecture(device)

    engine = find_engine(hashlib.sha256(model).hexdigest(), lambda found: misfit(trt, found, device))
    if engine is not None:
        return engine
    try:  # before minutes of building
        check_writable(cache_folder() / "an.engine")
    except InputError as error:
        raise BackendError(f"{error}, and set {CACHE} to it: engines are built once and cached") from error
    log.warning("%s: building the %s engine for %s; later starts take it from the cache", title(trt), precision, name)
    options = Options(targets=(target,) if backend_of(trt) == "tensorrt_rtx" else ())
    timings = timing_file(trt, name)
    engine = build(trt, model, precision, options, timing_cache=timings, device=name, architecture=target)
    write_engine(cache_folder() / engine.metadata.file_name, engine)
    return engine
