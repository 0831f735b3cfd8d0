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
from importlib import resources
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
        tensorrt: versions of TensorRT's library in the system's folders, "8.6.2".
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
    system = re.search(r'^PRETTY_NAME="?([^"\n]+)', _text(root / "etc/os-release"), re.MULTILINE)
    total = re.search(r"MemTotal:\s+(\d+) kB", _text(root / "proc/meminfo"))
    cards = _folders(root / "sys/bus/pci/devices")
    # "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 ..."
    driver = re.search(r"Kernel Module[^\n]*?\s(\d+\.\d+(?:\.\d+)?)", _text(root / "proc/driver/nvidia/version"))
    return Machine(
        system=system[1] if system else f"{platform.system()} {platform.release()}",
        architecture=platform.machine(),
        python=platform.python_version(),
        memory_gb=round(int(total[1]) * 1024 / 1e9, 1) if total else None,
        cpu=cpu(root),
        nvidia_gpus=sum(_text(c / "vendor") == _NVIDIA and _text(c / "class").startswith(_DISPLAY) for c in cards),
        driver=driver[1] if driver else None,
        tensorrt=tuple(sorted({v for p in root.glob(_TENSORRT) if "." in (v := p.name.split(".so.")[1])})),
        jetson=_jetson(root),
    )


def free_memory(root: Path = Path("/")) -> int | None:
    """Free bytes of this machine, or of its container's limit; None where that cannot be read."""
    free = []
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", (root / "proc/meminfo").read_text(), re.MULTILINE)
        free += [int(found[1]) << 10] if found else []
    except OSError:
        pass  # not Linux
    for folder, limit, used, cached in (
        ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
        ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            # cached files count as used, and are dropped when memory is short
            droppable = re.search(rf"^{cached} (\d+)", (root / folder / "memory.stat").read_text(), re.MULTILINE)
            most, now = ((root / folder / name).read_text().strip() for name in (limit, used))
            free.append(int(most) - int(now) + (int(droppable[1]) if droppable else 0))
        except (OSError, ValueError):
            continue  # no such limit: "max" is no number
    return min(free, default=None)


@cache
def jetson_table() -> dict[str, Any]:
    """`jetson.json`: chips, modules and releases of Jetson Linux, with the sources."""
    table: dict[str, Any] = json.loads((resources.files(__package__) / "jetson.json").read_text())
    return table


def _text(path: Path) -> str:
    """A small file, "" if it is absent or may not be read; strings of a device tree end in a zero byte."""
    try:
        return path.read_bytes().decode(errors="replace").replace("\0", "\n").strip()
    except OSError:
        return ""


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(path.iterdir())
    except OSError:
        return []


def cpu(root: Path = Path("/")) -> Cpu:
    """The processor of the machine whose files lie under `root`."""
    info = _text(root / "proc/cpuinfo")
    name = re.search(r"^model name\s*:\s*(.+)", info, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)", info, re.MULTILINE)
    seen = set(flags[1].split()) if flags else set()
    governors = {_text(p / "cpufreq/scaling_governor") for p in (root / "sys/devices/system/cpu").glob("cpu[0-9]*")}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Cpu(
        name=name[1] if name else platform.processor() or platform.machine(),
        cores=cores,
        features=tuple(f for f in _FEATURES if f in seen),
        governor=", ".join(sorted(governors - {""})) or None,
    )


def _jetson(root: Path) -> Jetson | None:
    compatible = _text(root / "proc/device-tree/compatible").splitlines()
    soc = next((c.split(",")[1] for c in compatible if c.startswith("nvidia,tegra")), None)
    if soc is None:
        return None
    table = jetson_table()
    parts = re.findall(r"p\d{4}-\d{4}", " ".join(compatible))
    module = next((table["modules"][p] for p in parts if p in table["modules"]), None)
    kit = _text(root / "proc/device-tree/model").removeprefix("NVIDIA ")
    known = table["socs"].get(soc)
    release = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", _text(root / "etc/nv_tegra_release"))
    l4t = f"{release[1]}.{release[2]}" if release else None
    found = re.findall(r"^<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)", _text(root / "etc/nvpmodel.conf"), re.MULTILINE)
    modes = {int(number): name for number, name in found}
    mode = re.search(r"pmode:(\d+)", _text(root / "var/lib/nvpmodel/status"))
    return Jetson(
        name=module or kit or soc,
        soc=soc,
        capability=tuple(known["capability"]) if known else None,
        l4t=l4t,
        jetpack=_release(l4t, table["releases"]),
        power_mode=modes.get(int(mode[1]), f"mode {int(mode[1])}") if mode else None,
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

    nearest = min(kin, key=distance)
    return {**releases[nearest], "jetpack": f"near {releases[nearest]['jetpack']}"}


def _clocks(root: Path) -> str | None:
    """`jetson_clocks` sets the lowest clock of the GPU to its highest."""
    for device in _folders(root / "sys/class/devfreq"):
        names = device.name.split(".")[-1], _text(device / "device/of_node/name")
        if any(name in _GPU_CLOCKS or name.startswith("gpu-gpc") for name in names):
            low, high = _text(device / "min_freq"), _text(device / "max_freq")
            return ("locked" if low == high else "free") if low and high else None
    return None
