"""Which backend and precision of a bundle run on this machine."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .backends import Backend, Session, backends, load_backend, pip_line, usable_backends
from .bundle.archive import Bundle
from .bundle.manifest import PRECISIONS
from .errors import BackendError, InputError
from .registry import unknown_name

log = logging.getLogger("posert")


@dataclass(frozen=True)
class Choice:
    """A backend and a precision, and why these."""

    backend: str
    precision: str
    reason: str


def choose(bundle: Bundle, backend: str = "auto", precision: str = "auto") -> Choice:
    """Pick a backend and a precision for a bundle on this machine.

    `auto` takes the first installed backend and, on it, the fastest precision that passed the bundle's accuracy gate,
    timed where no rule says which that is; where nothing was proven, full precision. What failed the gate runs only
    when it is asked for by name.

    Raises:
        BackendError: nothing fits; the message says what is missing and the pip line that brings it.
    """
    known = backends()
    if backend != "auto" and backend not in known:
        raise BackendError(unknown_name("backend", backend, ["auto", *known]))
    candidates = usable_backends() if backend == "auto" else iter([(backend, load_backend(backend))])
    seen: dict[str, Backend] = {}
    failed: list[str] = []
    lacking: dict[str, str] = {}
    for name, module in candidates:
        seen[name] = module
        lacking |= {p: f" on {name}: {why}" for p, why in _lacking(module).items()}
        runnable = [p for p, artifact in module.PRECISIONS.items() if artifact in bundle.artifacts]
        if precision != "auto":
            if precision in runnable:
                return _asked(bundle, name, precision, module.PRECISIONS[precision])
            continue
        verdicts = {p: _verdict(bundle, name, p, module.PRECISIONS[p]) for p in runnable}
        failed += [f"{name} {p}" for p in runnable if verdicts[p] == "failed"]
        why = "as asked" if backend != "auto" else "the first backend that can run here"
        chosen = _timed(bundle, name, module, verdicts, why) or _fastest(name, verdicts, why)
        if chosen:
            return chosen
    if not seen:
        raise BackendError(f"no backend can run here. On a CPU the fastest is OpenVINO: {pip_line('openvino')}")
    if failed:
        raise BackendError(
            f"{bundle.name}: {', '.join(failed)} failed the accuracy gate and nothing else of it can run here. Rebuild "
            "it, or install another backend, or ask for one of these with backend= and precision="
        )
    if precision in lacking:
        raise BackendError(f"{precision} cannot run{lacking[precision]}")
    raise _unfit(bundle, precision if precision != "auto" else "fp32", seen)


def _unfit(bundle: Bundle, precision: str, seen: Mapping[str, Backend]) -> BackendError:
    """The error where none of the backends that were asked runs this precision of this bundle."""
    usable = dict(usable_backends())
    modules = [*seen.values(), *usable.values()]
    known = {*PRECISIONS, *(p for module in modules for p in (*module.PRECISIONS, *_lacking(module)))}
    if precision not in known:
        return BackendError(unknown_name("precision", precision, known))
    others = [name for name, m in usable.items() if m.PRECISIONS.get(precision) in bundle.artifacts]
    artifact = next((m.PRECISIONS[precision] for m in modules if precision in m.PRECISIONS), None)
    if others:
        mends = f"It runs with the backend {' or '.join(others)}"
    elif artifact is None:
        mends = "No backend that is installed runs it: posert doctor tells what would"
    else:  # a build of int8 makes int8_gpu too, and each makes torchscript
        built = next((p for p in PRECISIONS if artifact.startswith(p)), "fp32")
        mends = f"Build it in: posert build --precision {built}"
    here = " and ".join(f"{name} ({', '.join(module.PRECISIONS)})" for name, module in seen.items())
    return BackendError(
        f"{bundle.name} holds {', '.join(bundle.artifacts)}, and here there is {here}: {precision} cannot run. {mends}"
    )


def _asked(bundle: Bundle, backend: str, precision: str, artifact: str) -> Choice:
    if _verdict(bundle, backend, precision, artifact) != "failed":
        return Choice(backend, precision, "as asked")
    log.warning("%s: %s %s failed the accuracy gate when the bundle was built", bundle.name, backend, precision)
    return Choice(backend, precision, "as asked, although it failed the accuracy gate")


def _verdict(bundle: Bundle, backend: str, precision: str, artifact: str) -> str:
    """The gate's verdict on a pair. One that was not measured has passed if its graph passed wherever it was.

    That goes for the graph's own precision: bf16, which computes the fp32 graph in less, inherits failures only, and
    hands nothing on.
    """
    rows = [r for r in bundle.accuracy["rows"] if r["verdict"] != "reference"]
    own = {r["verdict"] for r in rows if (r["backend"], r["precision"]) == (backend, precision)}
    if own:
        return "failed" if "failed" in own else "passed" if own == {"passed"} else "unproven"
    names = (artifact, bundle.artifacts[artifact].precision)
    if precision not in names:
        return "failed" if _verdict(bundle, backend, names[1], artifact) == "failed" else "unproven"
    same = {r["verdict"] for r in rows if r.get("artifact") == artifact and r["precision"] in names}
    return "passed" if same == {"passed"} else "unproven"


def _lacking(module: Backend) -> dict[str, str]:
    found: dict[str, str] = getattr(module, "LACKING", {})
    return found


def _timed(bundle: Bundle, backend: str, module: Backend, verdicts: dict[str, str], why: str) -> Choice | None:
    """The fastest of the narrow precisions that passed, on a backend that has to time them; None where nothing is."""
    passed = [p for p, verdict in verdicts.items() if verdict == "passed" and p != "fp32"]
    if len(passed) < 2 or not hasattr(module, "times"):
        return None
    times = module.times({p: bundle.read(bundle.artifacts[module.PRECISIONS[p]]) for p in passed})
    told = ", ".join(f"{p} {ms:.2f} ms" for p, ms in times.items())
    chosen = min(times, key=lambda p: times[p])
    return Choice(backend, chosen, f"{why}, and the fastest there of what passed the accuracy gate ({told})")


def _fastest(backend: str, verdicts: dict[str, str], why: str) -> Choice | None:
    """The first precision that passed, else the widest that did not fail; `verdicts` is in order of speed."""
    for precision, verdict in verdicts.items():
        if verdict == "passed":
            return Choice(backend, precision, f"{why}, and its fastest precision that passed the accuracy gate")
    left = [p for p, verdict in verdicts.items() if verdict != "failed"]
    widest = next((p for p in ("fp32", "fp16") if p in left), left[0] if left else None)
    return Choice(backend, widest, f"{why}; no precision is proven in this bundle, so the widest") if widest else None


def open_session(
    bundle: Bundle,
    backend: str,
    precision: str,
    threads: int | None = None,
    throughput: bool = False,
    keep: bool = False,
) -> Session:
    """Compile one artifact of a bundle on one backend.

    `throughput` prefers many frames to the shortest answer; `keep` lets a backend that can keep what it compiled, and
    find it the next time.

    Raises:
        BackendError: the backend is not installed, cannot run this precision, or refused the graph.
        InputError: `threads` is below 1.
    """
    if threads is not None and threads < 1:
        raise InputError(f"{threads} threads: expected 1 or more, or None to let the backend choose")
    module = load_backend(backend)
    artifact = module.PRECISIONS.get(precision)
    if precision in _lacking(module):
        raise BackendError(f"{precision} cannot run on {backend}: {_lacking(module)[precision]}")
    if artifact is None or artifact not in bundle.artifacts:
        raise _unfit(bundle, precision, {backend: module})
    graph = bundle.artifacts[artifact]
    kind: Any = getattr(module, "Throughput", module.Session) if throughput else module.Session
    session: Session
    if keep and hasattr(kind, "kept"):
        session = kind.kept(graph.sha256, lambda: bundle.read(graph), precision, threads)
    else:
        session = kind(bundle.read(graph), precision, threads)
    return session
