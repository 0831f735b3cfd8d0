"""Meters of machines that are folders: a server with RAPL, a Jetson, and one that tells nothing."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from posert.runtime.bench.meters import Meters


def put(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def server(tmp_path: Path) -> Path:
    rapl = "sys/class/powercap/intel-rapl:"
    files = {
        f"{rapl}0/name": "package-0\n",
        f"{rapl}0/energy_uj": "9000000\n",
        f"{rapl}0/max_energy_range_uj": "10000000\n",
        f"{rapl}0:0/name": "core\n",  # a part of the package: counted with it
        f"{rapl}0:0/energy_uj": "5000000\n",
        f"{rapl}1/name": "psys\n",
        f"{rapl}1/energy_uj": "5000000\n",
        "proc/loadavg": "0.50 0.40 0.30 1/100 7\n",
    }
    for i in sorted(os.sched_getaffinity(0)):
        cpu = f"sys/devices/system/cpu/cpu{i}"
        files |= {
            f"{cpu}/cpufreq/scaling_cur_freq": f"{3000000 - 100000 * (i == min(os.sched_getaffinity(0)))}\n",
            f"{cpu}/cpufreq/scaling_max_freq": "3500000\n",
            f"{cpu}/cpufreq/scaling_governor": "powersave\n",
            f"{cpu}/thermal_throttle/core_throttle_count": "2\n",
        }
    put(tmp_path, **files)
    return tmp_path


def test_a_server(server: Path):
    meters = Meters(server)
    assert meters.energy_source == "RAPL package-0"
    before = meters.energy()
    put(server, **{"sys/class/powercap/intel-rapl:0/energy_uj": "500000\n"})  # it has started again at 0
    after = meters.energy()
    assert before is not None and after is not None
    assert after - before == pytest.approx(1.5)
    assert meters.throttled() == {"core_throttle_count": 2 * len(os.sched_getaffinity(0))}
    assert meters.moment()["cpu_mhz"] == 2900
    facts = meters.describe()
    assert facts["governor"] == "powersave" and facts["cpu_mhz_limit"] == 3500 and facts["load"] == "0.50"


def test_a_counter_that_may_not_be_read(server: Path):
    path = server / "sys/class/powercap/intel-rapl:0/energy_uj"
    path.unlink()
    path.mkdir()  # reading it fails, also for root
    meters = Meters(server)
    assert meters.energy() is None
    assert "sudo chmod a+r" in meters.energy_source


@pytest.mark.parametrize("board_input", [True, False])
def test_a_jetson(tmp_path: Path, board_input: bool):
    hwmon = "sys/class/hwmon/hwmon3"
    rails = {"1": ("VDD_IN" if board_input else "VDD_SOC", "5000", "2000"), "2": ("VDD_CPU_GPU_CV", "5000", "1000")}
    put(tmp_path, **{f"{hwmon}/name": "ina3221\n", f"{hwmon}/oc1_event_cnt": "4\n"})
    for i, (label, millivolt, milliampere) in rails.items():
        put(tmp_path, **{f"{hwmon}/in{i}_label": label, f"{hwmon}/in{i}_input": millivolt})
        put(tmp_path, **{f"{hwmon}/curr{i}_input": milliampere})
    meters = Meters(tmp_path)
    start, before = time.perf_counter(), meters.energy()
    time.sleep(0.1)
    spent, after = time.perf_counter() - start, meters.energy()
    assert before is not None and after is not None
    watts = 10 if board_input else 15  # the input carries the rest; without it the rails are added up
    assert (after - before) / watts == pytest.approx(spent, abs=0.05)
    assert meters.energy_source == ("INA3221 VDD_IN" if board_input else "INA3221 VDD_SOC, VDD_CPU_GPU_CV")
    assert meters.throttled() == {"oc1_event_cnt": 4}


def test_a_machine_that_tells_nothing(tmp_path: Path):
    meters = Meters(tmp_path)
    assert meters.energy() is None and meters.throttled() == {} and "cpu_mhz" not in meters.moment()
    facts = meters.describe()
    for key in ("cpu_mhz", "governor", "throttling", "energy", "load"):
        assert facts[key].startswith("not available: ")
