"""What can run here, what cannot, and the line that would make it work.

Each library is loaded in a process of its own: one that crashes, hangs or prints is a finding and harms nothing.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import distributions
from typing import Any

from .backends import MissingBackend, backends, load_backend, pip_line
from .errors import BackendError
from .system.machine import Machine

SECONDS = 300.0  # a library that takes longer to load hangs, even on a small and busy machine

_GPU_BACKENDS = ("tensorrt", "tensorrt_rtx", "onnxruntime_cuda", "torchscript_cuda")
# Instructions that multiply 8-bit integers, and what they are called.
_INT8 = {
    "amx_int8": "AMX",
    "avx512_vnni": "AVX512-VNNI",
    "avx_vnni": "AVX-VNNI",
    "i8mm": "I8MM",
    "asimddp": "dot products",
}
_TENSOR_CORES = (7, 0)
_INT8_TENSOR_CORES = (7, 2)


@dataclass(frozen=True)
class Probe:
    """What became of loading one library.

    Attributes:
        state: "ready", "missing" (not installed), "cannot run" (installed, and something else lacks) or "broken".
        reason: of any other state than "ready", with the line that mends it.
        facts: what it told: "version", "precisions" of a backend; of the driver "cuda", "name", "capability", ...
    """

    state: str
    reason: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """Something that should be mended: `what` is so, `mend` is the line that changes it.

    `level` is "broken" (installed and does not work), "missing" (would make something work) or "slow".
    """

    level: str
    what: str
    mend: str


def probe(what: str, seconds: float = SECONDS) -> Probe:
    """Load one backend, "opencv" or "driver" in a new process, and say what became of it."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, what], capture_output=True, text=True, errors="replace", timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return Probe("broken", f"it did not load within {seconds:.0f} s. Install it anew: {_mend(what)}")
    last = next((line for line in reversed(done.stdout.splitlines()) if line.startswith('{"state"')), None)
    if done.returncode == 0 and last:
        return Probe(**json.loads(last))
    if done.returncode < 0:
        why = f"loading it ends the process by {signal.Signals(-done.returncode).name}"
    else:
        why = (done.stderr.strip().splitlines() or ["it ends without a message"])[-1]
    return Probe("broken", f"{why}. Install it anew: {_mend(what)}")


def probe_all() -> dict[str, Probe]:
    """`probe` of OpenCV, the driver and all backends, by name."""
    names = ["opencv", "driver", *backends()]
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return dict(zip(names, pool.map(probe, names), strict=True))


def precisions(backend: str, seen: Probe, machine: Machine, driver: Probe) -> dict[str, str]:
    """Each precision that a backend runs, with what this machine makes of it."""
    notes = _gpu_notes(backend, seen, driver) if backend in _GPU_BACKENDS else _cpu_notes(backend, machine)
    return {p: notes.get(p, "yes") for p in seen.facts.get("precisions", ())}


def _cpu_notes(backend: str, machine: Machine) -> dict[str, str]:
    features = machine.cpu.features
    fast = next((name for flag, name in _INT8.items() if flag in features), None)
    int8 = f"with {fast}" if fast else "without instructions for it: measure it against fp32"
    if backend == "onnxruntime":
        int8 += "; OpenVINO is faster"
    signed = "the graph of GPUs, to be judged on a CPU"
    fp16, bf16 = "computed in fp32: a smaller file, no faster", "the fp32 graph in half the time"
    return {"fp32": "yes", "bf16": bf16, "fp16": fp16, "int8": int8, "int8_gpu": signed}


def _gpu_notes(backend: str, seen: Probe, driver: Probe) -> dict[str, str]:
    if seen.state != "ready":
        builds = "; engines can be built: posert compile" if backend == "tensorrt_rtx" else ""
        return dict.fromkeys(("fp32", "fp16", "int8"), f"not run here{builds}")
    capability = tuple(driver.facts.get("capability", (0, 0)))
    fp16 = "on tensor cores" if capability >= _TENSOR_CORES else "without tensor cores"
    int8 = "on tensor cores" if capability >= _INT8_TENSOR_CORES else "without tensor cores"
    if backend == "tensorrt_rtx":
        int8 += "; fp16 is the faster there"
    return {"fp32": "yes", "fp16": fp16, "int8": int8}


def diagnose(machine: Machine, probes: Mapping[str, Probe]) -> list[Finding]:
    """What should be mended, the worst first.

    Args:
        machine: from `posert.runtime.system.machine.machine`.
        probes: from `probe_all`.
    """
    found = [Finding("broken", f"{name}: {p.reason}", _mend(name)) for name, p in probes.items() if p.state == "broken"]
    if not any(probes[name].state == "ready" for name in backends() if name in probes):
        found.append(Finding("missing", "no backend can run here", pip_line("openvino")))
    found += _gpu(machine, probes)
    if {"onnxruntime", "onnxruntime-gpu"} <= _installed():
        mend = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
        found.append(Finding("broken", "onnxruntime and onnxruntime-gpu are both installed and share a folder", mend))
    found += _power(machine)
    order = ("broken", "missing", "slow")
    return sorted(found, key=lambda f: order.index(f.level))


def _gpu(machine: Machine, probes: Mapping[str, Probe]) -> list[Finding]:
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
    if tensorrt.state == "missing":
        system = ", ".join(machine.tensorrt)
        if system:
            what = f"TensorRT {system} is in the system, and this Python ({machine.python}) does not see it"
            mend = "sudo apt install python3-libnvinfer, and python3 -m venv --system-site-packages"
            wanted = jetson.jetpack.get("python") if jetson else None
            if wanted and not machine.python.startswith(wanted + "."):
                what += f", which JetPack made for {wanted}"
            found.append(Finding("missing", what, mend))
        elif jetson:
            found.append(Finding("missing", "JetPack's TensorRT is not installed", "sudo apt install nvidia-jetpack"))
        elif not any(probes[name].state == "ready" for name in _GPU_BACKENDS):
            found.append(Finding("missing", "there is a GPU, and nothing that uses it", pip_line("tensorrt")))
    return found


def _power(machine: Machine) -> list[Finding]:
    jetson = machine.jetson
    if jetson is None:
        if machine.cpu.governor and "powersave" in machine.cpu.governor:
            mend = "sudo cpupower frequency-set -g performance"
            return [Finding("slow", "the processor's clock is governed by powersave: first frames are slow", mend)]
        return []
    found = []
    fullest = next((n for n, name in sorted(jetson.power_modes.items(), key=_by_maxn) if "MAXN" in name), None)
    if jetson.power_mode and fullest is not None and jetson.power_mode != jetson.power_modes[fullest]:
        what = f"power mode {jetson.power_mode}; the fastest is {jetson.power_modes[fullest]}"
        found.append(Finding("slow", what, f"sudo nvpmodel -m {fullest}"))
    if jetson.clocks == "free":
        found.append(Finding("slow", "clocks follow the load: latency varies", "sudo jetson_clocks"))
    return found


def _by_maxn(mode: tuple[int, str]) -> int:
    """MAXN_SUPER before MAXN; the numbers of modes say nothing about their speed."""
    return -len(mode[1])


def _installed() -> set[str]:
    return {(d.metadata["Name"] or "").lower() for d in distributions()}


def _mend(what: str) -> str:
    if what == "opencv":
        return 'pip install "opencv-python-headless<5"'
    return "nvidia-smi, then the driver anew" if what == "driver" else pip_line(what)


def _look(what: str) -> Probe:
    """In the new process: load it and ask it."""
    if what == "opencv":
        import cv2

        return Probe("ready", facts={"version": cv2.__version__})
    if what == "driver":
        return _look_at_driver()
    try:
        module = load_backend(what)
    except MissingBackend as error:
        return Probe("missing", str(error))
    except BackendError as error:
        return Probe("broken", str(error))
    library = next(m for name in ("LIBRARY", "ov", "ort", "torch") if (m := getattr(module, name, None)) is not None)
    facts = {"version": str(library.__version__).split("-")[0], "precisions": list(module.PRECISIONS)}
    lacking = getattr(module, "missing", lambda: None)()
    return Probe("cannot run", lacking, facts) if lacking else Probe("ready", facts=facts)


def _look_at_driver() -> Probe:
    from .cuda.driver import Device
    from .cuda.kernels import images
    from .cuda.library import missing

    reason = missing()
    if reason is not None:
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
    from dataclasses import asdict

    print("\n" + json.dumps(asdict(_look(sys.argv[1]))))
