"""The engines of a build: made from the bundle's graphs before the gate, and left beside the bundle after it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from ...runtime.backends import Backend, load_backend
from ...runtime.bundle.archive import Artifact, Bundle
from ...runtime.compilation import compile_engine, origin_of
from ...runtime.cuda.driver import Device
from ...runtime.engines.builder import Options
from ...runtime.engines.session import architecture, misfit
from ...runtime.engines.sidecar import EngineMetadata, read_engine, write_engine
from ...runtime.errors import BackendError
from ...runtime.system.files import cache_folder
from ...runtime.system.memory import trim_heap
from .engine_plan import Made
from .plan import Build

_OPERATORS = ("Conv", "ConvTranspose", "MatMul", "Gemm")


def make_engines(build: Build, draft: Path) -> list[Made]:
    """Build the planned engines from the graphs of the draft; one that cannot be built says why.

    Those that run on this machine also go into the cache, where the gate, and later `PoseEstimator`, take them from.
    """
    plan = build.plan.engines
    if not plan.backend:
        return []
    spec = load_backend(plan.backend)
    here = Device() if spec.unavailable() is None else None
    targets = plan.targets or (architecture(here) if here is not None else "",)
    wanted = [(precision, target) for precision in plan.precisions for target in targets]
    made = []
    with Bundle(draft) as bundle:
        for done, (precision, target) in enumerate(wanted):
            build.report(f"engine: {precision} for {target}", done, len(wanted))
            one = Made(precision, target)
            try:
                _make(build, bundle, spec, one, here)
            except BackendError as error:
                one.reason = str(error)
            made.append(one)
            trim_heap()
    return made


def _make(build: Build, bundle: Bundle, spec: Backend, one: Made, here: Device | None) -> None:
    start = time.perf_counter()
    options = Options(targets=(one.target,) if spec.builds_offline else ())
    engine = compile_engine(bundle, spec, one.precision, options)
    one.seconds, m = time.perf_counter() - start, engine.metadata
    artifact = bundle.artifacts[spec.precisions[one.precision]]
    if problem := audit(m, artifact, bundle.read(artifact)):
        raise BackendError(f"{spec.name} {m.version} built something else than the {artifact.name} graph: {problem}")
    one.metadata, one.file = m, build.folder / m.name_beside(build.plan.output.stem)
    engine = replace(engine, origin=None)
    write_engine(one.file, engine)
    one.here = here is not None and misfit(spec.import_library(), m, here) is None
    if one.here:
        write_engine(cache_folder() / m.file_name, engine)


def audit(metadata: EngineMetadata, artifact: Artifact, data: bytes) -> str:
    """What the library made of a graph's convolutions and matrix products that is not in the graph; "" for nothing."""
    graph = onnx.load_from_string(data).graph
    nodes = [node for node in graph.node if node.op_type in _OPERATORS]
    dequantized = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    quantized = sum(len(node.input) > 1 and dequantized.issuperset(node.input[:2]) for node in nodes)
    half = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16}
    halved = sum(not half.isdisjoint(node.input[:2]) for node in nodes)

    def count(suffix: str) -> int:
        return sum(n for kind, n in metadata.computing.items() if kind.endswith(suffix))

    if count("") != len(nodes):
        return f"it has {count('')} of {len(nodes)} convolutions and matrix products"
    if count(" of INT8") != quantized:
        return f"{count(' of INT8')} of {quantized} quantised layers are int8"
    if count(" HALF") < halved:
        return f"{count(' HALF')} of {halved} layers with float16 weights are float16"
    return ""


def time_engines(build: Build) -> dict[str, Any] | None:
    """GPU time of the narrow precisions that passed the gate, and the faster; None where there is no choice.

    No rule says whether int8 beats float16 on a GPU. The times are kept in the cache, where a start finds them.
    """
    spec = load_backend(build.plan.engines.backend) if build.plan.engines.backend else None
    if spec is None or spec.autotune is None:
        return None
    here = {one.precision for one in build.engines if one.here and one.precision != "fp32"}
    rows = [row for row in build.parity.rows if row.backend == spec.name and row.verdict == "passed"]
    passed = [row for row in rows if row.precision in here]
    if len(passed) < 2:
        return None
    ms = spec.autotune({row.precision: _bytes(build, row.artifact) for row in passed})
    fastest = min(ms, key=lambda precision: ms[precision])
    return {"backend": spec.name, "device": Device().name, "ms": ms, "fastest": fastest}


def leave_engines(build: Build) -> None:
    """Write the engines beside the bundle, each with a sidecar that holds the gate's verdict; those that failed not."""
    if not any(one.file for one in build.engines):
        return
    spec = load_backend(build.plan.engines.backend)
    with Bundle(build.path) as bundle:
        for one in build.engines:
            if one.file is None or one.metadata is None:
                continue
            origin = origin_of(bundle, spec, one.precision)
            one.verdict = str(origin.accuracy["verdict"])
            if one.verdict == "failed":
                one.file, one.reason = None, "it failed the accuracy gate"
                continue
            path = build.path.with_name(one.metadata.name_beside(build.path.stem))
            write_engine(path, replace(read_engine(one.file), origin=origin))
            one.file = path


def _bytes(build: Build, artifact: str) -> bytes:
    data = build.graphs[artifact][1]
    return data.read_bytes() if isinstance(data, Path) else data
