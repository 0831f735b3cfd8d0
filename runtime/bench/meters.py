"""Clocks, throttling and energy of the machine that is measured; where one cannot be read, the reason.

Everything is read from files of Linux and from NVIDIA's management library, NVML; nothing is set.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..system.machine import machine, processors, read_text

_NOT = "not available: "
# https://docs.nvidia.com/deploy/nvml-api/group__nvmlClocksEventReasons.html, those that slow a GPU down.
_SLOWED = {0x04: "power cap", 0x08: "hardware", 0x20: "temperature", 0x40: "temperature", 0x80: "power brake"}


class Meters:
    """The meters of the machine whose files are under `root`.

    `energy_source` says what `energy` counts, such as "RAPL package-0", or why it cannot.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root, self._gpu = root, _Nvml.open()
        self.energy_source, self._energy = self._find_energy()

    def energy(self) -> float | None:
        """Joules used by the whole chip or board so far; only differences mean something."""
        return self._energy() if self._energy else None

    def throttled(self) -> dict[str, int]:
        """How often the machine was throttled since it started, by the counter's name."""
        counts: dict[str, int] = {}
        for pattern in (
            "devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count",
            "devices/system/cpu/cpu[0-9]*/thermal_throttle/package_throttle_count",
            "class/hwmon/hwmon*/oc*_event_cnt",  # a Jetson's over-current alarms
        ):
            for path in (self._root / "sys").glob(pattern):
                if (value := _number(path)) is not None:
                    counts[path.name] = counts.get(path.name, 0) + int(value)
        return counts

    def moment(self) -> dict[str, Any]:
        """Now: the lowest clock of the processors in use, in MHz, the GPU's clock and what slows it down."""
        clocks = self._clocks("scaling_cur_freq")
        return ({"cpu_mhz": min(clocks)} if clocks else {}) | (self._gpu.moment() if self._gpu else {})

    def describe(self) -> dict[str, Any]:
        """The machine, for a result: its model, its settings, and what can be metered."""
        facts: dict[str, Any] = asdict(machine(self._root))
        return facts | {
            "gpu": self._gpu.name if self._gpu else f"{_NOT}{_Nvml.reason}",
            "cpu_mhz": self.moment().get("cpu_mhz", f"{_NOT}no cpufreq here (a virtual machine or a container)"),
            "cpu_mhz_limit": max(self._clocks("scaling_max_freq"), default=f"{_NOT}no cpufreq here"),
            "governor": facts["cpu"]["governor"] or f"{_NOT}no cpufreq here",
            "throttling": self.throttled() or f"{_NOT}no counters here",
            "energy": self.energy_source,
            # of other programs, if it is read before the measurement
            "load": next(iter(read_text(self._root / "proc/loadavg").split()), f"{_NOT}no /proc/loadavg"),
        }

    def _clocks(self, name: str) -> list[float]:
        """MHz of the processors in use, as far as they can be read."""
        cpus = self._root / "sys/devices/system/cpu"
        return [c / 1e3 for i in processors() if (c := _number(cpus / f"cpu{i}/cpufreq/{name}")) is not None]

    def _find_energy(self) -> tuple[str, Callable[[], float] | None]:
        if rails := _rails(self._root):
            return f"INA3221 {', '.join(rails)}", _Rails(list(rails.values())).joules
        zones = sorted((self._root / "sys/class/powercap").glob("intel-rapl:*"))
        packages = [p for p in zones if p.name.count(":") == 1 and read_text(p / "name").startswith("package")]
        sources = [_Rapl(p) for p in packages if _number(p / "energy_uj") is not None]
        gpu = self._gpu.joules if self._gpu and self._gpu.joules() is not None else None
        if sources or gpu:
            names = [f"RAPL {s.name}" for s in sources] + (["NVML"] if gpu else [])
            return " + ".join(names), lambda: sum(s.joules() for s in sources) + ((gpu() or 0.0) if gpu else 0.0)
        if packages:
            return f"{_NOT}RAPL may not be read; sudo chmod a+r {packages[0]}/energy_uj", None
        return f"{_NOT}no RAPL, NVML or INA3221 here", None


class _Rapl:
    """A processor's energy counter, which wraps around at `max_energy_range_uj`."""

    def __init__(self, folder: Path) -> None:
        self._file, self.name = folder / "energy_uj", read_text(folder / "name")
        self._range = _number(folder / "max_energy_range_uj") or 0.0
        self._last, self._wraps = 0.0, 0

    def joules(self) -> float:
        now = _number(self._file) or 0.0
        self._wraps += now < self._last
        self._last = now
        return (self._wraps * self._range + now) * 1e-6


def _rails(root: Path) -> dict[str, tuple[Path, Path]]:
    """A Jetson's power monitors, each with its voltage and its current (kernel.org, hwmon/ina3221).

    The board's input where it is a rail of its own, else all rails.
    """
    found: dict[str, tuple[Path, Path]] = {}
    for label in sorted((root / "sys/class/hwmon").glob("hwmon*/in[123]_label")):
        volt, ampere = label.with_name(f"{label.name[:3]}_input"), label.with_name(f"curr{label.name[2]}_input")
        if read_text(label.with_name("name")) == "ina3221" and None not in (_number(volt), _number(ampere)):
            found[read_text(label)] = volt, ampere
    return {n: paths for n, paths in found.items() if n in ("VDD_IN", "POM_5V_IN")} or found


class _Rails:
    """Power monitors that a thread reads and integrates."""

    def __init__(self, rails: list[tuple[Path, Path]]) -> None:
        self._rails = rails
        self._total, self._lock = 0.0, threading.Lock()
        self._then, self._watts = time.perf_counter(), self._read()
        threading.Thread(target=self._run, name="posert-rails", daemon=True).start()

    def joules(self) -> float:
        with self._lock:
            self._add()
            return self._total

    def _run(self) -> None:
        while True:
            time.sleep(0.02)
            with self._lock:
                self._add()

    def _add(self) -> None:
        now, watts = time.perf_counter(), self._read()
        self._total += (now - self._then) * (watts + self._watts) / 2
        self._then, self._watts = now, watts

    def _read(self) -> float:
        return sum((_number(volt) or 0) * (_number(ampere) or 0) for volt, ampere in self._rails) * 1e-6


class _Nvml:
    """The first GPU in NVIDIA's management library."""

    reason = ""

    def __init__(self, library: ctypes.CDLL, device: ctypes.c_void_p) -> None:
        self._library, self._device = library, device
        text = ctypes.create_string_buffer(96)
        library.nvmlDeviceGetName(device, text, 96)
        self.name = text.value.decode(errors="replace")

    @classmethod
    def open(cls) -> _Nvml | None:
        try:
            library = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            cls.reason = "no NVML here"
            return None
        device = ctypes.c_void_p()
        if library.nvmlInit_v2() or library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(device)):
            cls.reason = "NVML finds no GPU"
            return None
        return cls(library, device)

    def joules(self) -> float | None:
        value = ctypes.c_ulonglong()  # mJ; from Volta on
        failed = self._library.nvmlDeviceGetTotalEnergyConsumption(self._device, ctypes.byref(value))
        return None if failed else value.value * 1e-3

    def moment(self) -> dict[str, Any]:
        clock, reasons = ctypes.c_uint(), ctypes.c_ulonglong()
        seen: dict[str, Any] = {}
        if not self._library.nvmlDeviceGetClockInfo(self._device, 1, ctypes.byref(clock)):  # 1: the multiprocessors
            seen["gpu_mhz"] = clock.value
        self._library.nvmlDeviceGetCurrentClocksThrottleReasons(self._device, ctypes.byref(reasons))
        if slowed := sorted({why for bit, why in _SLOWED.items() if reasons.value & bit}):
            seen["gpu_slowed_by"] = ", ".join(slowed)
        return seen


def _number(path: Path) -> float | None:
    try:
        return float(read_text(path))
    except ValueError:
        return None
