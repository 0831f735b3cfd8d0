"""Which engines a build ends in, decided before any work from what is asked and installed, and what became of them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...runtime.backends import BACKENDS, Backend, MissingBackend, load_backend
from ...runtime.compilation import ENGINE_BACKENDS
from ...runtime.cuda.library import missing as no_driver
from ...runtime.engines.builder import targets_of
from ...runtime.engines.sidecar import EngineMetadata
from ...runtime.errors import BackendError, InputError

AUTO, NONE = "auto", "none"


@dataclass(frozen=True)
class EnginePlan:
    """The engines of a build.

    Attributes:
        backend: the library that builds them; "" where none are built.
        precisions: one engine each.
        targets: GPUs such as "sm89", one engine each; none: this machine's GPU.
        asked: whether they were asked for, so that one that cannot be built is an error.
        note: what to tell where none are built: the reason and the commands that go on.
    """

    backend: str = ""
    precisions: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    asked: bool = False
    note: str = ""


@dataclass
class Made:
    """An engine of a build.

    Attributes:
        file: it, in the build's folder, and after the gate beside the bundle; None where it was left out.
        metadata: what it was built for; None where it could not be built.
        reason: why it was left out.
        seconds: what building it took.
        here: whether it runs on this machine.
        verdict: of the gate, on itself or on its graph.
    """

    precision: str
    target: str
    file: Path | None = None
    metadata: EngineMetadata | None = None
    reason: str = ""
    seconds: float = 0.0
    here: bool = False
    verdict: str = ""

    def to_json(self) -> dict[str, Any]:
        """For `posert build --json`."""
        values = {"precision": self.precision, "target": self.target, "file": self.file and str(self.file)}
        if self.metadata is None:
            return {**values, "reason": self.reason}
        m = self.metadata
        built = {"backend": m.backend, "version": m.version, "devices": list(m.devices), "layers": m.layers}
        return {**values, **built, "seconds": round(self.seconds, 2), "verdict": self.verdict, "reason": self.reason}

    def line(self) -> str:
        """For a terminal."""
        what = f"{self.precision} for {self.target or 'this GPU'}"
        if self.file is None or self.metadata is None:
            return f"no engine of {what}: {self.reason}"
        size = self.file.stat().st_size / 1e6
        layers = ", ".join(f"{n} {kind}" for kind, n in self.metadata.computing.items())
        return f"engine {self.file}\n  {what}, {size:.1f} MB, {self.verdict}: {layers}"


def plan_engines(engine: str, targets: tuple[str, ...], precisions: tuple[str, ...], output: Path) -> EnginePlan:
    """What `--engine` and `--target` mean on this machine.

    `auto` takes the first library that is installed and can build for the targets, or for this machine's GPU. Where
    there is none, no engines are built, and the note says how to go on.

    Raises:
        InputError: the library cannot build for these targets, or for this machine.
        BackendError: the library that was asked for is not installed.
    """
    if engine == NONE:
        if targets:
            raise InputError("--target names the GPUs of engines, and --engine none leaves them out: drop one of them")
        return EnginePlan()
    if engine != AUTO:
        spec = load_backend(engine)
        if reason := _lacking(spec, targets):
            raise InputError(f"--engine {engine}: {reason}")
        return EnginePlan(engine, precisions, targets, asked=True)
    reasons = {}
    for name in ENGINE_BACKENDS:
        try:
            spec = load_backend(name)
        except MissingBackend:
            continue
        except BackendError as error:
            reasons[name] = str(error)
            continue
        if targets and spec.builds_offline:
            _check_targets(spec, targets)
        reason = _lacking(spec, targets)
        if reason is None:
            return EnginePlan(name, precisions, targets, asked=bool(targets))
        reasons[name] = reason
    return EnginePlan(note=_note(reasons, targets, precisions, output))


def _lacking(spec: Backend, targets: tuple[str, ...]) -> str | None:
    """Why a library cannot build these engines here; None where it can."""
    if targets and not spec.builds_offline:
        return "TensorRT builds for the GPU of this machine; --target is for TensorRT-RTX"
    if targets:
        _check_targets(spec, targets)
        return None
    lacking = spec.unavailable()
    if lacking and spec.builds_offline:
        return "TensorRT-RTX finds no GPU here that it could build for (posert doctor): name some with --target sm89"
    return lacking


def _check_targets(spec: Backend, targets: tuple[str, ...]) -> None:
    known = targets_of(spec.import_library())
    if unknown := [target for target in targets if target not in known]:
        raise InputError(f"--target {', '.join(unknown)}: TensorRT-RTX builds for {', '.join(known)}")


def _note(reasons: dict[str, str], targets: tuple[str, ...], precisions: tuple[str, ...], output: Path) -> str:
    """Why no engines are built, and the commands that build them later."""
    name = "tensorrt" if no_driver() is None and not targets else "tensorrt_rtx"
    spec = BACKENDS.load(name)
    title = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}[name]
    command = ["posert", "compile", str(output), "--backend", name, "--precision", ",".join(precisions)]
    if name == "tensorrt_rtx":
        command += ["--target", ",".join(targets) or "sm89"]
    lines = [shlex.join([*command, "--output", str(output.parent)])]
    if name not in reasons:
        lines.insert(0, spec.pip_line)
    why = reasons.get(name, f"{title} is not installed")
    return "\n".join([f"no engines: {why}. The bundle is complete; go on with:", *lines])
