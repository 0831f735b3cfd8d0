"""Compile an engine of a bundle ahead of its first use: for this machine's GPU, or for others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from .backends import Backend
from .bundle.archive import Bundle
from .engines.builder import Options, Progress, build, timing_file
from .engines.sidecar import Engine, Origin
from .errors import BackendError, InputError
from .selection import graph_verdict, verdict_of

ENGINE_BACKENDS = ("tensorrt", "tensorrt_rtx")
"""Backends whose engines can be compiled ahead, the preferred first."""


def compile_engine(
    bundle: Bundle,
    spec: Backend,
    precision: str,
    options: Options | None = None,
    *,
    timing_cache: Path | None = None,
    progress: Progress | None = None,
) -> Engine:
    """Compile one graph of a bundle with TensorRT or TensorRT-RTX.

    Args:
        spec: of `ENGINE_BACKENDS`; its library is installed.
        timing_cache: TensorRT only: file of kernel timings; None: the one in the cache.

    Raises:
        InputError: the bundle has no graph of this precision for the backend.
        BackendError: TensorRT finds no GPU, or the library refused the graph or an option.
    """
    check_precision(bundle, spec, precision)
    trt, device, architecture = spec.import_library(), None, ""
    if not spec.builds_offline:
        from .cuda.driver import Device
        from .engines.session import architecture as architecture_of

        if lacking := spec.unavailable():
            raise BackendError(f"TensorRT builds engines on the GPU that runs them. {lacking}")
        here = Device()
        device, architecture = here.name, architecture_of(here)
        timing_cache = timing_cache or timing_file(trt, device)
    engine = build(
        trt,
        bundle.read(bundle.artifacts[spec.precisions[precision]]),
        precision,
        options,
        timing_cache=timing_cache,
        device=device,
        architecture=architecture,
        progress=progress,
    )
    return Engine(engine.metadata, engine.plan, origin_of(bundle, spec, precision))


def parse_targets(text: str | None) -> tuple[str, ...]:
    """GPUs from a comma list of compute capabilities such as "sm86,sm89"; none from None.

    Raises InputError: something else.
    """
    targets = tuple(dict.fromkeys(t.strip().lower().replace("_", "") for t in text.split(","))) if text else ()
    if wrong := [t for t in targets if not re.fullmatch(r"sm\d{2,3}", t)]:
        expected = "a compute capability such as sm89, or a comma list of these"
        raise InputError(f"--target {', '.join(wrong)}: expected {expected}")
    return targets


def check_precision(bundle: Bundle, spec: Backend, precision: str) -> None:
    """Raise InputError: the bundle has no graph of this precision for the backend."""
    if spec.precisions.get(precision) not in bundle.artifacts:
        here = [p for p, artifact in spec.precisions.items() if artifact in bundle.artifacts]
        raise InputError(f"{bundle.name} has {', '.join(here)} for {spec.name}, not {precision!r}")


def origin_of(bundle: Bundle, spec: Backend, precision: str) -> Origin:
    """What an engine takes along from its bundle."""
    artifact = bundle.artifacts[spec.precisions[precision]]
    return Origin(
        name=bundle.name,
        model=dict(bundle.manifest["model"]),
        contract=bundle.contract,
        artifact=artifact,
        accuracy=_accuracy(bundle, spec.name, precision, artifact.name),
        golden=bundle.golden(),
    )


def _accuracy(bundle: Bundle, backend: str, precision: str, artifact: str) -> dict[str, Any]:
    """The verdict on an engine and the gate's rows that say so: its own, else those of its graph elsewhere."""
    gate = bundle.accuracy
    own = [row for row in gate["rows"] if (row["backend"], row["precision"]) == (backend, precision)]
    same = [row for row in gate["rows"] if row.get("artifact") == artifact]
    kept: dict[str, Any] = {name: gate[name] for name in ("max_drop", "max_drift", "data", "timed") if name in gate}
    verdict = verdict_of(bundle, backend, precision, artifact) if own else graph_verdict(bundle, artifact)
    return {**kept, "verdict": verdict, "rows": own or same}
