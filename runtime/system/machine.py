"""This machine, read from its files: processor, memory, NVIDIA's driver, a Jetson's module and power mode.

No library is loaded and no program is run, so it works on a machine on which every library is broken.
"""

from __future__ import annotations

import json
import os
import platform
import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import zip_longest
from pathlib import Path
from typing import Any

_NVIDIA = "0x10de"
_DISPLAY = "0x03"  # PCI class of graphics cards and of accelerators without a display (0x0302)
# Instructions that speed up networks, by their names in /proc/cpuinfo: first x86, then ARM.
_FEATURES = (
    *("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16", "amx_fp16"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve"),
)
_GPU_CLOCKS = ("gpu", "ga10b", "gv11b", "gp10b", "gm20b")
# TensorRT's library, where NVIDIA's packages put it.
_TENSORRT = "usr/lib/*-linux-gnu/libnvinfer.so.*"


@dataclass(frozen=True)
class Cpu:
    """The processor.

    Attributes:
        cores: that this process may use.
        features: instructions that matter to networks: "avx512_vnni", "amx_int8", "asimddp", ...
        governor: how its clock follows the load; None where that cannot be read (virtual machines, containers).
    """

    name: str
    cores: int
    features: tuple[str, ...]
    governor: str | None


@dataclass(frozen=True)
class Jetson:
    """A Jetson module and its software.

    Attributes:
        name: of the module, else of the developer kit.
        soc, capability: "tegra234" and the compute capability of its GPU; None for one that is not in the table.
        l4t: release of Jetson Linux, "36.4.3"; None where the container hides it.
        jetpack: the software of that release: "jetpack", "cuda", "tensorrt", "python"; {} for an unknown one.
        power_mode: as `nvpmodel` set it, "15W"; `power_modes` all by number.
        clocks: "locked" by `jetson_clocks`, "free", or None where it cannot be seen.
    """

    name: str
    soc: str
    capability: tuple[int, int] | None
    l4t: str | None
    jetpack: dict[str, str]
    power_mode: str | None
    power_modes: dict[int, str]
    clocks: str | None


@dataclass(frozen=True)
class Machine:
    """A machine.

    Attributes:
        system, architecture, python: "Ubuntu 22.04.5 LTS", "x86_64", "3.10.12".
        nvidia_gpus: NVIDIA's graphics cards on the PCI bus.
        driver: version of NVIDIA's kernel driver; None where it is not loaded.
        tensorrt: versions of TensorRT's library in the system's folders, "10.3.0".
    """

    system: str
    architecture: str
    python: str
    memory_gb: float | None
    cpu: Cpu
    nvidia_gpus: int
    driver: str | None
    tensorrt: tuple[str, ...]
    jetson: Jetson | None


def machine(root: Path = Path("/")) -> Machine:
    """Read the machine whose files lie under `root`."""
    system = _find(r'^PRETTY_NAME="?([^"\n]+)', root / "etc/os-release")
    total = _find(r"MemTotal:\s+(\d+) kB", root / "proc/meminfo")
    cards = (root / "sys/bus/pci/devices").glob("*")
    return Machine(
        system=system or f"{platform.system()} {platform.release()}",
        architecture=platform.machine(),
        python=platform.python_version(),
        memory_gb=round(int(total) * 1024 / 1e9, 1) if total else None,
        cpu=cpu(root),
        nvidia_gpus=sum(
            read_text(c / "vendor") == _NVIDIA and read_text(c / "class").startswith(_DISPLAY) for c in cards
        ),
        # "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 ..."
        driver=_find(r"Kernel Module[^\n]*?\s(\d+\.\d+(?:\.\d+)?)", root / "proc/driver/nvidia/version"),
        tensorrt=tuple(sorted({v for p in root.glob(_TENSORRT) if "." in (v := p.name.split(".so.")[1])})),
        jetson=_jetson(root),
    )


def free_memory(root: Path = Path("/")) -> int | None:
    """Free bytes of this machine, or of its container's limit; None where that cannot be read."""
    available = _find(r"^MemAvailable:\s+(\d+) kB", root / "proc/meminfo")
    free = [int(available) << 10] if available else []
    for folder, limit, used, cached in (
        ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
        ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        most, now = read_text(root / folder / limit), read_text(root / folder / used)
        if most.isdigit() and now.isdigit():  # "max" is no limit
            # cached files count as used, and are dropped when memory is short
            free.append(int(most) - int(now) + int(_find(rf"^{cached} (\d+)", root / folder / "memory.stat") or 0))
    return min(free, default=None)


@cache
def jetson_table() -> dict[str, Any]:
    """`jetson.json`: chips, modules and releases of Jetson Linux, with the sources."""
    return dict(json.loads(Path(__file__).with_name("jetson.json").read_text()))


def processors() -> list[int]:
    """Numbers of the processors that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def read_text(path: Path) -> str:
    """A small file, "" if it is absent or may not be read; strings of a device tree end in a zero byte."""
    try:
        return path.read_bytes().decode(errors="replace").replace("\0", "\n").strip()
    except OSError:
        return ""


def _find(pattern: str, path: Path) -> str | None:
    """The first group of a pattern in a small file."""
    found = re.search(pattern, read_text(path), re.MULTILINE)
    return found[1] if found else None


def cpu(root: Path = Path("/")) -> Cpu:
    """The processor of the machine whose files lie under `root`."""
    name = _find(r"^model name\s*:\s*(.+)", root / "proc/cpuinfo")
    flags = (_find(r"^(?:flags|Features)\s*:\s*(.+)", root / "proc/cpuinfo") or "").split()
    governors = {read_text(p / "cpufreq/scaling_governor") for p in (root / "sys/devices/system/cpu").glob("cpu[0-9]*")}
    return Cpu(
        name=name or platform.processor() or platform.machine(),
        cores=len(processors()),
        features=tuple(f for f in _FEATURES if f in flags),
        governor=", ".join(sorted(governors - {""})) or None,
    )


def _jetson(root: Path) -> Jetson | None:
    compatible = read_text(root / "proc/device-tree/compatible").splitlines()
    soc = next((c.split(",")[1] for c in compatible if c.startswith("nvidia,tegra")), None)
    if soc is None:
        return None
    table = jetson_table()
    parts = re.findall(r"p\d{4}-\d{4}", " ".join(compatible))
    module = next((table["modules"][p] for p in parts if p in table["modules"]), None)
    kit = read_text(root / "proc/device-tree/model").removeprefix("NVIDIA ")
    known = table["socs"].get(soc)
    release = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", read_text(root / "etc/nv_tegra_release"))
    l4t = f"{release[1]}.{release[2]}" if release else None
    found = re.findall(r"^<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)", read_text(root / "etc/nvpmodel.conf"), re.MULTILINE)
    modes = {int(number): name for number, name in found}
    mode = _find(r"pmode:(\d+)", root / "var/lib/nvpmodel/status")
    return Jetson(
        name=module or kit or soc,
        soc=soc,
        capability=tuple(known["capability"]) if known else None,
        l4t=l4t,
        jetpack=_release(l4t, table["releases"]),
        power_mode=modes.get(int(mode), f"mode {int(mode)}") if mode else None,
        power_modes=modes,
        clocks=_clocks(root),
    )


def _release(l4t: str | None, releases: dict[str, dict[str, str]]) -> dict[str, str]:
    """The row of a release. An unknown revision gets the row of the nearest known one of its major version."""
    if l4t is None or l4t in releases:
        return releases.get(l4t or "", {})
    kin = [r for r in releases if r.split(".")[0] == l4t.split(".")[0]]
    if not kin:
        return {}

    def distance(release: str) -> list[int]:
        pairs = zip_longest(release.split("."), l4t.split("."), fillvalue="0")
        return [abs(int(a) - int(b)) for a, b in pairs]

    nearest = releases[min(kin, key=distance)]
    return {**nearest, "jetpack": f"near {nearest['jetpack']}"}


def _clocks(root: Path) -> str | None:
    """`jetson_clocks` sets the lowest clock of the GPU to its highest."""
    for device in sorted((root / "sys/class/devfreq").glob("*")):
        names = device.name.split(".")[-1], read_text(device / "device/of_node/name")
        if any(name in _GPU_CLOCKS or name.startswith("gpu-gpc") for name in names):
            low, high = read_text(device / "min_freq"), read_text(device / "max_freq")
            return ("locked" if low == high else "free") if low and high else None
    return None


def versions() -> dict[str, str]:
    """Versions of the tools that shape a bundle."""
    found = {"python": platform.python_version()}
    for package in ("posert", "torch", "onnx", "onnxruntime", "openvino", "numpy", "opencv-python-headless"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def processor() -> dict[str, Any]:
    """The processor on which figures were measured."""
    return {"cpu": cpu().name, "cores": cpu().cores}
