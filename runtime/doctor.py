"""Diagnose this machine: what can run here, what cannot, and the line that fixes it.

Each library is loaded in a process of its own: one that crashes, hangs or prints is a finding and nothing else.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib.metadata import distributions
from typing import Any

from .backends import BACKENDS, MissingBackend, backends, load_backend, pip_line
from .datasets import DATASETS
from .engines.builder import too_old
from .errors import BackendError
from .pose.heads import HEADS
from .registry import GROUPS, Registry, label, plugin_failures, plugins
from .results import FORMATS
from .system.machine import Machine

SECONDS = 300.0  # a library that takes longer to load hangs, even on a small and busy machine

# Backends are loaded one by one; the plug-ins of another group in one process.
_PLUGINS = tuple(group for group in GROUPS if group != BACKENDS.group)
_REGISTRIES: dict[str, Registry[Any]] = {registry.group: registry for registry in (DATASETS, FORMATS, HEADS)}
# Instructions that multiply 8-bit integers, and their names.
_INT8 = {
    "amx_int8": "AMX",
    "avx512_vnni": "AVX512-VNNI",
    "avx_vnni": "AVX-VNNI",
    "i8mm": "I8MM",
    "asimddp": "dot products",
}
_TENSOR_CORES = {"fp16": (7, 0), "int8": (7, 2)}
"""The first compute capability that has them for a precision."""


@dataclass(frozen=True)
class Probe:
    """The result of loading one library.

    Attributes:
        state: "ready", "missing" (not installed), "cannot run" (this machine lacks something) or "broken".
        reason: of any other state than "ready", with the line that fixes it.
        facts: of a backend "version", "precisions"; of the driver "cuda", "name", "capability", ...; of a group of
            plug-ins "failures".
    """

    state: str
    reason: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """Something to fix, and the line that fixes it.

    `level` is "broken" (installed and does not work), "missing" (would make something work) or "slow".
    """

    level: str
    what: str
    fix: str


def probe(what: str, seconds: float = SECONDS) -> Probe:
    """Load one backend, "opencv", "driver" or a group of plug-ins ("posert.heads") in a new process."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, what], capture_output=True, text=True, errors="replace", timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return Probe("broken", f"it did not load within {seconds:.0f} s. Reinstall it: {_fix(what)}")
    last = next((line for line in reversed(done.stdout.splitlines()) if line.startswith('{"state"')), None)
    if done.returncode == 0 and last:
        return Probe(**json.loads(last))
    why = (done.stderr.strip().splitlines() or ["it ends without a message"])[-1]
    if done.returncode < 0:
        why = f"loading it ends the process by {signal.Signals(-done.returncode).name}"
    return Probe("broken", f"{why}. Reinstall it: {_fix(what)}")


def probe_all() -> dict[str, Probe]:
    """`probe` of OpenCV, the driver, all backends and the groups of which plug-ins are installed, by name."""
    names = ["opencv", "driver", *backends(), *(group for group in _PLUGINS if plugins(group))]
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return dict(zip(names, pool.map(probe, names), strict=True))


def examine(machine: Machine, probes: Mapping[str, Probe]) -> dict[str, Any]:
    """The whole report, as `posert doctor --json` prints it; arguments as for `diagnose`."""
    rows = [
        {"backend": name, **asdict(seen), "precisions": precisions(name, seen, machine, probes["driver"])}
        for name, seen in ((name, probes[name]) for name in backends())
    ]
    return {
        "machine": asdict(machine),
        "opencv": asdict(probes["opencv"]),
        "gpu": asdict(probes["driver"]),
        "backends": rows,
        "uses": next((row["backend"] for row in rows if row["state"] == "ready"), None),
        "findings": [asdict(f) for f in diagnose(machine, probes)],
    }


def precisions(backend: str, seen: Probe, machine: Machine, driver: Probe) -> dict[str, str]:
    """Each precision that a backend runs, with a remark on this machine."""
    runs = seen.facts.get("precisions", ())
    if not runs:  # its library, or the spec itself, could not be loaded
        return {}
    spec = BACKENDS.load(backend)
    if spec.device == "cuda" and seen.state != "ready":
        builds = "; engines can be built: posert compile" if spec.builds_offline else ""
        return dict.fromkeys(runs, f"not run here{builds}")
    remarks = _on_gpu(driver) if spec.device == "cuda" else _on_cpu(machine)
    return {p: "; ".join(filter(None, (remarks.get(p, "yes"), spec.notes.get(p)))) for p in runs}


def _on_cpu(machine: Machine) -> dict[str, str]:
    fast = next((name for flag, name in _INT8.items() if flag in machine.cpu.features), None)
    return {
        "bf16": "the fp32 graph in half the time",
        "fp16": "computed in fp32: a smaller file, no faster",
        "int8": f"with {fast}" if fast else "without instructions for it: measure it against fp32",
        "int8_gpu": "the graph for GPUs, to check it on a CPU",
    }


def _on_gpu(driver: Probe) -> dict[str, str]:
    capability = tuple(driver.facts.get("capability", (0, 0)))
    return {p: f"{'on' if capability >= first else 'without'} tensor cores" for p, first in _TENSOR_CORES.items()}


def diagnose(machine: Machine, probes: Mapping[str, Probe]) -> list[Finding]:
    """What to fix on a machine with the results of `probe_all`, the worst first."""
    found = []
    for name, seen in probes.items():
        if seen.state == "broken":
            found.append(Finding("broken", f"{name}: {seen.reason}", _fix(name)))
        failures = seen.facts.get("failures", {})
        found += [Finding("broken", reason, _reinstall([plugin])) for plugin, reason in failures.items()]
    ready = {BACKENDS.load(name).device for name in backends() if probes[name].state == "ready"}
    if not ready:
        found.append(Finding("missing", "no backend can run here", pip_line("openvino")))
    found += _gpu(machine, probes, "cuda" in ready)
    if {"onnxruntime", "onnxruntime-gpu"} <= _installed():
        fix = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
        found.append(Finding("broken", "onnxruntime and onnxruntime-gpu are both installed and share a folder", fix))
    found += _power(machine)
    return sorted(found, key=lambda f: ("broken", "missing", "slow").index(f.level))


def _gpu(machine: Machine, probes: Mapping[str, Probe], used: bool) -> list[Finding]:
    driver, jetson = probes["driver"], machine.jetson
    if driver.state != "ready":
        if machine.driver or jetson:
            what = f"the GPU cannot be reached: {driver.reason}"
            return [Finding("missing", what, "in a container: docker run --runtime nvidia --gpus all ...")]
        if machine.nvidia_gpus:
            what = f"{machine.nvidia_gpus} NVIDIA GPU on the PCI bus, and no driver is loaded"
            return [Finding("missing", what, "sudo ubuntu-drivers install && sudo reboot")]
        return []
    found = []
    if driver.facts.get("kernels"):
        found.append(Finding("missing", driver.facts["kernels"], "--backend openvino or onnxruntime, on the CPU"))
    tensorrt = probes["tensorrt"]
    releases = [tensorrt.facts["version"]] if "version" in tensorrt.facts else list(machine.tensorrt)
    old = [reason for reason in map(too_old, releases) if reason]
    if old and len(old) == len(releases):
        found.append(Finding("missing", old[-1], "install JetPack 6.1 or later" if jetson else pip_line("tensorrt")))
    elif tensorrt.state == "missing":
        if machine.tensorrt:
            system = ", ".join(machine.tensorrt)
            what = f"TensorRT {system} is in the system, and this Python ({machine.python}) does not see it"
            fix = "sudo apt install python3-libnvinfer, and python3 -m venv --system-site-packages"
            wanted = jetson.jetpack.get("python") if jetson else None
            if wanted and not machine.python.startswith(wanted + "."):
                what += f", which JetPack made for {wanted}"
            found.append(Finding("missing", what, fix))
        elif jetson:
            found.append(Finding("missing", "JetPack's TensorRT is not installed", "sudo apt install nvidia-jetpack"))
        elif not used:
            found.append(Finding("missing", "there is a GPU, and nothing that uses it", pip_line("tensorrt")))
    return found


def _power(machine: Machine) -> list[Finding]:
    jetson = machine.jetson
    if jetson is None:
        if machine.cpu.governor and "powersave" in machine.cpu.governor:
            fix = "sudo cpupower frequency-set -g performance"
            return [Finding("slow", "the processor's clock is governed by powersave: first frames are slow", fix)]
        return []
    found = []
    # MAXN_SUPER before MAXN; the numbers of the modes do not tell their speed
    fullest = max(((len(name), name, n) for n, name in jetson.power_modes.items() if "MAXN" in name), default=None)
    if jetson.power_mode and fullest and jetson.power_mode != fullest[1]:
        what = f"power mode {jetson.power_mode}; the fastest is {fullest[1]}"
        found.append(Finding("slow", what, f"sudo nvpmodel -m {fullest[2]}"))
    if jetson.clocks == "free":
        found.append(Finding("slow", "clocks follow the load: latency varies", "sudo jetson_clocks"))
    return found


def _installed() -> set[str]:
    return {(d.metadata["Name"] or "").lower() for d in distributions()}


def _fix(what: str) -> str:
    if what == "opencv":
        return 'pip install "opencv-python-headless<5"'
    if what == "driver":
        return "nvidia-smi, then reinstall the driver"
    return _reinstall(map(label, plugins(what))) if what in GROUPS else pip_line(what)


def _reinstall(labels: Iterable[str]) -> str:
    """The command for the packages of plug-ins such as "posert.heads: toy (their-package)"."""
    return f"pip install --force-reinstall {' '.join(sorted({n.rpartition('(')[2].rstrip(')') for n in labels}))}"


def _look(what: str) -> Probe:
    """In the new process: load it, and collect its facts."""
    if what == "opencv":
        import cv2

        return Probe("ready", facts={"version": cv2.__version__})
    if what == "driver":
        return _look_at_driver()
    if what in GROUPS:
        registry = _REGISTRIES.get(what)  # that of posert.archs needs PyTorch: its plug-ins are only imported
        return Probe("ready", facts={"failures": registry.plugin_failures() if registry else plugin_failures(what)})
    try:
        spec = load_backend(what)
    except BackendError as error:
        return Probe("missing" if isinstance(error, MissingBackend) else "broken", str(error))
    facts = {"version": spec.library_version().split("-")[0], "precisions": list(spec.precisions)}
    if lacking := spec.unavailable():
        return Probe("cannot run", lacking, facts)
    return Probe("ready", facts={**facts, "precisions": list(spec.runnable())})


def _look_at_driver() -> Probe:
    from .cuda.driver import Device
    from .cuda.kernels import images
    from .cuda.library import missing

    if reason := missing():
        return Probe("cannot run", reason)
    device = Device()
    with device.active():
        total = device.memory()[1]
    facts = {
        "cuda": ".".join(map(str, device.driver)),
        "name": device.name,
        "capability": list(device.capability),
        "memory_gb": round(total / 1e9, 1),
        "integrated": device.integrated,
    }
    try:
        images(device.capability)
    except BackendError as error:
        facts["kernels"] = str(error)
    return Probe("ready", facts=facts)


if __name__ == "__main__":
    print("\n" + json.dumps(asdict(_look(sys.argv[1]))))
