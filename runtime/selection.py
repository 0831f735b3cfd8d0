"""Select the backend and the precision that a bundle runs with on this machine, and open a session."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .backends import Backend, Session, backends, load_backend, pip_line, usable_backends
from .bundle.archive import Bundle
from .bundle.manifest import PRECISIONS
from .engines.engine_file import EngineFile, is_engine
from .errors import BackendError, InputError
from .registry import unknown_name

log = logging.getLogger("posert")


@dataclass(frozen=True)
class Selection:
    """A backend and a precision, and why these."""

    backend: str
    precision: str
    reason: str


def open_model(
    path: str | os.PathLike[str], trusted_keys: Iterable[str | os.PathLike[str]] | None = None
) -> Bundle | EngineFile:
    """Open a `.pose` file, here or on the hub, or an `.engine` file with its sidecar; arguments as of `Bundle`.

    Raises:
        BundleError: the bundle cannot be used.
        BackendError: the engine file cannot be used.
    """
    opens = EngineFile if is_engine(path) else Bundle
    return opens(path, trusted_keys=trusted_keys)


def select(bundle: Bundle | EngineFile, backend: str = "auto", precision: str = "auto") -> Selection:
    """Select a backend and a precision for a bundle on this machine. An engine has one of each.

    `auto` takes the first backend that can run here and, on it, the fastest precision that passed the bundle's accuracy
    gate, timed where no rule says which that is; where none is proven, full precision. A precision that failed the gate
    runs only when it is asked for by name. Raises BackendError: nothing fits; the message says what is missing and the
    line that fixes it.
    """
    known = backends()
    if backend != "auto" and backend not in known:
        raise BackendError(unknown_name("backend", backend, ["auto", *known]))
    if isinstance(bundle, EngineFile):
        return _of_engine(bundle, backend, precision)
    candidates = usable_backends() if backend == "auto" else iter([load_backend(backend)])
    seen: list[Backend] = []
    failed: list[str] = []
    unsupported: dict[str, str] = {}
    for spec in candidates:
        seen.append(spec)
        unsupported |= {p: f" on {spec.name}: {why}" for p, why in spec.unsupported().items()}
        held = {p: artifact for p, artifact in spec.runnable().items() if artifact in bundle.artifacts}
        if precision != "auto":
            if precision in held:
                return _as_asked(bundle, spec.name, precision, held[precision])
            continue
        verdicts = {p: verdict_of(bundle, spec.name, p, artifact) for p, artifact in held.items()}
        failed += [f"{spec.name} {p}" for p, verdict in verdicts.items() if verdict == "failed"]
        why = "as asked" if backend != "auto" else "the first backend that can run here"
        selected = _timed(bundle, spec, verdicts, why) or _fastest(spec.name, verdicts, why)
        if selected:
            return selected
    if not seen:
        raise BackendError(f"no backend can run here. On a CPU the fastest is OpenVINO: {pip_line('openvino')}")
    if failed:
        raise BackendError(
            f"{bundle.path}: {', '.join(failed)} failed the accuracy gate and nothing else of it can run here. Rebuild "
            "it, or install another backend, or ask for one of these with backend= and precision="
        )
    if precision in unsupported:
        raise BackendError(f"{precision} cannot run{unsupported[precision]}")
    raise _unfit(bundle, precision if precision != "auto" else "fp32", seen)


def _of_engine(engine: EngineFile, backend: str, precision: str) -> Selection:
    """What an engine was built for. Raises BackendError: something else is asked for."""
    built = engine.metadata
    if backend not in ("auto", built.backend) or precision not in ("auto", built.precision):
        raise BackendError(
            f"{engine.path} runs on {built.backend} in {built.precision}, not as asked: leave backend and precision "
            "out, or run the bundle that it was built from"
        )
    if engine.verdict == "failed":
        log.warning("%s: %s failed the accuracy gate when it was built", engine.path, built.precision)
        return Selection(built.backend, built.precision, "the engine that was given, although it failed its gate")
    return Selection(built.backend, built.precision, "the engine that was given")


def _unfit(bundle: Bundle, precision: str, seen: Sequence[Backend]) -> BackendError:
    """The error where none of the backends in question runs this precision of this bundle."""
    usable = list(usable_backends())
    specs = [*seen, *usable]
    known = {*PRECISIONS, *(p for spec in specs for p in spec.precisions)}
    if precision not in known:
        return BackendError(unknown_name("precision", precision, known))
    others = [spec.name for spec in usable if spec.runnable().get(precision) in bundle.artifacts]
    if others:
        names = " and ".join(spec.name for spec in seen)
        return BackendError(
            f"{bundle.path}: {precision} does not run on {names}. It runs with the backend {' or '.join(others)}"
        )
    artifact = next((spec.precisions[precision] for spec in specs if precision in spec.precisions), None)
    if artifact is None:
        return BackendError(f"no backend that can run here runs {precision}. What each of them needs: posert doctor")
    # `--precision int8` builds int8_gpu too, and any precision builds torchscript
    built = next((p for p in PRECISIONS if artifact.startswith(p)), "fp32")
    return BackendError(
        f"{bundle.path} has no {artifact} graph (it has {', '.join(bundle.artifacts)}). Rebuild with: posert build "
        f"--precision {built}"
    )


def _as_asked(bundle: Bundle, backend: str, precision: str, artifact: str) -> Selection:
    if verdict_of(bundle, backend, precision, artifact) != "failed":
        return Selection(backend, precision, "as asked")
    log.warning("%s: %s %s failed the accuracy gate when the bundle was built", bundle.name, backend, precision)
    return Selection(backend, precision, "as asked, although it failed the accuracy gate")


def verdict_of(bundle: Bundle, backend: str, precision: str, artifact: str) -> str:
    """The gate's verdict on a pair. A pair that was not measured has passed if its graph passed wherever it ran.

    This holds for the graph's own precision only: bf16, which computes the fp32 graph less exactly, inherits the
    graph's failures but not its passes, and its own verdict says nothing about the graph.
    """
    rows = [r for r in bundle.accuracy["rows"] if r["verdict"] != "reference"]
    own = {r["verdict"] for r in rows if (r["backend"], r["precision"]) == (backend, precision)}
    if own:
        return "failed" if "failed" in own else "passed" if own == {"passed"} else "unproven"
    names = (artifact, bundle.artifacts[artifact].precision)
    if precision not in names:
        return "failed" if verdict_of(bundle, backend, names[1], artifact) == "failed" else "unproven"
    same = {r["verdict"] for r in rows if r.get("artifact") == artifact and r["precision"] in names}
    return "passed" if same == {"passed"} else "unproven"


def graph_verdict(bundle: Bundle, artifact: str) -> str:
    """The gate's verdict on a graph, wherever it ran: "failed" if it failed anywhere."""
    names = (artifact, bundle.artifacts[artifact].precision)
    rows = [r for r in bundle.accuracy["rows"] if r.get("artifact") == artifact and r["precision"] in names]
    seen = {r["verdict"] for r in rows}
    return "failed" if "failed" in seen else "passed" if seen == {"passed"} else "unproven"


def _timed(bundle: Bundle, spec: Backend, verdicts: Mapping[str, str], why: str) -> Selection | None:
    """The fastest of the narrow precisions that passed, on a backend that has to time them; None where nothing is."""
    passed = [p for p, verdict in verdicts.items() if verdict == "passed" and p != "fp32"]
    if len(passed) < 2 or spec.autotune is None:
        return None
    times = spec.autotune({p: bundle.read(bundle.artifacts[spec.precisions[p]]) for p in passed})
    measured = ", ".join(f"{p} {ms:.2f} ms" for p, ms in times.items())
    fastest = min(times, key=lambda p: times[p])
    return Selection(spec.name, fastest, f"{why}, and the fastest there of what passed the accuracy gate ({measured})")


def _fastest(backend: str, verdicts: Mapping[str, str], why: str) -> Selection | None:
    """The first precision that passed, else the widest that did not fail; `verdicts` is in order of speed."""
    for precision, verdict in verdicts.items():
        if verdict == "passed":
            return Selection(backend, precision, f"{why}, and its fastest precision that passed the accuracy gate")
    left = [p for p, verdict in verdicts.items() if verdict != "failed"]
    if not left:
        return None
    widest = next((p for p in ("fp32", "fp16") if p in left), left[0])
    return Selection(backend, widest, f"{why}; no precision is proven in this bundle, so the widest")


def open_session(
    bundle: Bundle | EngineFile,
    backend: str,
    precision: str,
    threads: int | None = None,
    throughput: bool = False,
    cached: bool = False,
) -> Session:
    """Compile one artifact of a bundle on one backend.

    Args:
        threads: bound on CPU threads; None lets the backend choose.
        throughput: prefer many frames per second to the shortest answer, where the backend can.
        cached: keep the compiled graph in the cache and take it from there, where the backend can.

    Raises:
        BackendError: the backend is not installed, cannot run this precision, or refused the graph.
        InputError: `threads` is below 1.
    """
    if threads is not None and threads < 1:
        raise InputError(f"{threads} threads: expected 1 or more, or None to let the backend choose")
    spec = load_backend(backend)
    if isinstance(bundle, EngineFile):
        return _open_engine(bundle, spec)
    unsupported = spec.unsupported()
    if precision in unsupported:
        raise BackendError(f"{precision} cannot run on {backend}: {unsupported[precision]}")
    graph = bundle.artifacts.get(spec.precisions.get(precision, ""))
    if graph is None:
        raise _unfit(bundle, precision, [spec])
    try:
        if cached and spec.open_cached is not None:
            return spec.open_cached(graph.sha256, lambda: bundle.read(graph), precision, threads, throughput)
        compile_graph = spec.open_throughput if throughput and spec.open_throughput is not None else spec.open
        return compile_graph(bundle.read(graph), precision, threads)
    except BackendError as error:
        raise BackendError(f"{bundle.path}: {error}") from error


def _open_engine(engine: EngineFile, spec: Backend) -> Session:
    if spec.open_engine is None:
        raise BackendError(f"{engine.path} is of the backend {spec.name}, which runs no engine files: run the bundle")
    if lacking := spec.unavailable():
        raise BackendError(f"{engine.path} cannot run here. {lacking}")
    try:
        return spec.open_engine(engine.read())
    except BackendError as error:
        raise BackendError(
            f"{engine.path}: {error}. Rebuild it for this machine: posert compile BUNDLE --backend {spec.name} "
            "--output DIR"
        ) from error
