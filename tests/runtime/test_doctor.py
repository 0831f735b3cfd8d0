"""The doctor on machines that are folders here, with libraries that crash and with plug-ins."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from posert.runtime import backends as package
from posert.runtime import doctor
from posert.runtime.backends import backends, installed_backends
from posert.runtime.cli.commands import doctor as command
from posert.runtime.cli.main import main
from posert.runtime.doctor import Probe, diagnose, precisions, probe
from posert.runtime.registry import GROUPS
from posert.runtime.system.machine import jetson_table, machine

ORIN = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed",
    "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
    "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd evtstrm aes asimdhp cpuid asimdrdm asimddp\n",
    "proc/meminfo": "MemTotal:        7802808 kB\nMemFree: 1 kB\n",
    "var/lib/nvpmodel/status": "pmode:0000",
    "etc/nvpmodel.conf": "# a comment\n< POWER_MODEL ID=0 NAME=15W >\nGPU MAX_FREQ 612000000\n"
    "< POWER_MODEL ID=1 NAME=25W >\n"
    "< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n< POWER_MODEL ID=3 NAME=7W >\n< PM_CONFIG DEFAULT=1 >\n",
    "sys/class/devfreq/17000000.gpu/min_freq": "306000000\n",
    "sys/class/devfreq/17000000.gpu/max_freq": "612000000\n",
    "sys/class/devfreq/15340000.vic/min_freq": "115200000\n",
    "sys/class/devfreq/15340000.vic/max_freq": "115200000\n",
    "usr/lib/aarch64-linux-gnu/libnvinfer.so.10": "",
    "usr/lib/aarch64-linux-gnu/libnvinfer.so.10.3.0": "",
}
DESKTOP = {
    "etc/os-release": 'PRETTY_NAME="Ubuntu 24.04 LTS"\n',
    "proc/cpuinfo": "model name\t: Intel(R) Core(TM) i7-12700\nflags\t\t: fpu avx2 avx_vnni\n",
    "proc/meminfo": "MemTotal:       32000000 kB\n",
    "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30\n"
    "GCC version:  gcc version 12.3.0\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "powersave\n",
    "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
    "sys/bus/pci/devices/0000:01:00.0/class": "0x030000\n",
    "sys/bus/pci/devices/0000:01:00.1/vendor": "0x10de\n",  # the sound of the same card
    "sys/bus/pci/devices/0000:01:00.1/class": "0x040300\n",
}
SERVER = {
    "proc/cpuinfo": "model name\t: Xeon(R) Platinum 8481C\nflags\t\t: avx2 avx512f avx512_vnni amx_bf16 amx_int8\n"
}

INSTALLED = list(installed_backends())
READY = {"version": "10.3"}
MISSING = Probe("missing", 'needs a package: pip install "posert[it]"')
NO_DRIVER = Probe("cannot run", "no NVIDIA driver here")


@pytest.fixture
def root(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """A machine's files under a folder."""

    def write(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def probes(ready: dict[str, list[str]], driver: Probe = NO_DRIVER, **others: Probe) -> dict[str, Probe]:
    """Nothing is installed but these, with their precisions."""
    found = {"opencv": Probe("ready", facts={"version": "4.14.0"}), "driver": driver}
    found |= dict.fromkeys(backends(), MISSING)
    found |= {name: Probe("ready", facts={**READY, "precisions": p}) for name, p in ready.items()}
    return {**found, **others}


def gpu(*capability: int, **facts: Any) -> Probe:
    known = {"cuda": "12.6", "name": "A GPU", "capability": list(capability), "memory_gb": 8.0, "integrated": False}
    return Probe("ready", facts={**known, **facts})


def told(files: Path, found: dict[str, Probe]) -> tuple[dict[str, Any], str]:
    report = doctor.examine(machine(files), found)
    return json.loads(json.dumps(report)), "\n".join(command.describe(report))


def fixes(report: dict[str, Any]) -> list[tuple[str, str]]:
    return [(f["level"], f["fix"]) for f in report["findings"]]


def test_a_jetson_whose_tensorrt_python_does_not_see(root: Callable[[dict[str, str]], Path]) -> None:
    report, text = told(root(ORIN), probes({"onnxruntime": ["fp32", "int8"]}, gpu(8, 7, integrated=True)))
    jetson = report["machine"]["jetson"]
    assert jetson["name"] == "Jetson Orin Nano 8 GB (developer kit)" and jetson["capability"] == [8, 7]
    assert jetson["jetpack"] == {"jetpack": "6.2", "cuda": "12.6", "tensorrt": "10.3", "python": "3.10"}
    assert jetson["power_mode"] == "15W" and jetson["clocks"] == "free"
    assert report["machine"]["tensorrt"] == ["10.3.0"]
    assert fixes(report) == [
        ("missing", "sudo apt install python3-libnvinfer, and python3 -m venv --system-site-packages"),
        ("slow", "sudo nvpmodel -m 2"),
        ("slow", "sudo jetson_clocks"),
    ]
    wanted = "which JetPack made for 3.10"
    assert (wanted in report["findings"][0]["what"]) == (sys.version_info[:2] != (3, 10))
    assert report["backends"][5]["precisions"]["int8"].startswith("with dot products")
    for line in (
        "Jetson Linux 36.4.3",
        "JetPack    6.2, with CUDA 12.6",
        "15W of 15W, 25W, MAXN_SUPER, 7W; clocks free",
    ):
        assert line in text


def test_a_jetson_at_full_speed(root: Callable[[dict[str, str]], Path]) -> None:
    files = {**ORIN, "var/lib/nvpmodel/status": "pmode:0002", "sys/class/devfreq/17000000.gpu/min_freq": "612000000\n"}
    report, _ = told(root(files), probes({"tensorrt": ["fp16", "int8", "fp32"]}, gpu(8, 7)))
    assert report["findings"] == [] and report["uses"] == "tensorrt"
    assert report["backends"][0]["precisions"] == {"fp16": "on tensor cores", "int8": "on tensor cores", "fp32": "yes"}


@pytest.mark.parametrize(
    ("release", "jetpack"),
    [
        ("# R36 (release), REVISION: 3.0, GCID", {"jetpack": "6.0", "tensorrt": "8.6.2"}),
        ("# R35 (release), REVISION: 4.1, GCID", {"jetpack": "5.1.2", "tensorrt": "8.5.2", "python": "3.8"}),
        ("# R39 (release), REVISION: 2.0, GCID", {"jetpack": "7.2"}),
        ("# R36 (release), REVISION: 4.9, GCID", {"jetpack": "near 6.2.1", "tensorrt": "10.3"}),
        ("# R99 (release), REVISION: 1.0, GCID", {}),
        ("damaged", {}),
    ],
)
def test_releases_of_jetson_linux(
    root: Callable[[dict[str, str]], Path], release: str, jetpack: dict[str, str]
) -> None:
    found = machine(root({**ORIN, "etc/nv_tegra_release": release})).jetson
    assert found is not None
    assert {k: found.jetpack[k] for k in jetpack} == jetpack and bool(found.jetpack) == bool(jetpack)


def test_a_jetson_that_hides_everything(root: Callable[[dict[str, str]], Path]) -> None:
    """As in a container: only the device tree is there, and the chip is not in the table."""
    report, text = told(root({"proc/device-tree/compatible": "acme,board\0nvidia,tegra999\0"}), probes({}))
    jetson = report["machine"]["jetson"]
    assert (jetson["name"], jetson["capability"], jetson["power_mode"], jetson["clocks"]) == (
        "tegra999",
        None,
        None,
        None,
    )
    assert "JetPack    unknown" in text
    assert ("missing", "in a container: docker run --runtime nvidia --gpus all ...") in fixes(report)


def test_the_table_of_jetsons() -> None:
    table = jetson_table()
    assert all(s.startswith("https://") for s in table["sources"])
    assert {len(r.split(".")) for r in table["releases"]} == {3}
    assert all(r.keys() == {"jetpack", "cuda", "tensorrt", "python"} for r in table["releases"].values())
    assert all(len(s["capability"]) == 2 for s in table["socs"].values())


def test_a_desktop_with_a_driver_and_nothing_that_uses_it(root: Callable[[dict[str, str]], Path]) -> None:
    report, text = told(root(DESKTOP), probes({"openvino": ["int8", "fp32"]}, gpu(8, 6)))
    m = report["machine"]
    assert (m["driver"], m["nvidia_gpus"], m["cpu"]["governor"]) == ("550.54.14", 1, "powersave")
    assert fixes(report) == [
        ("missing", 'pip install "posert[tensorrt]"'),
        ("slow", "sudo cpupower frequency-set -g performance"),
    ]
    assert report["backends"][4]["precisions"]["int8"] == "with AVX-VNNI"
    assert "550.54.14, CUDA 12.6" in text and "by default on openvino" in text


def test_a_card_without_a_driver(root: Callable[[dict[str, str]], Path]) -> None:
    files = {name: text for name, text in DESKTOP.items() if "driver" not in name and "governor" not in name}
    report, _ = told(root(files), probes({"openvino": ["fp32"]}))
    assert fixes(report) == [("missing", "sudo ubuntu-drivers install && sudo reboot")]


def test_an_old_card(root: Callable[[dict[str, str]], Path]) -> None:
    old = gpu(6, 1, kernels="this GPU has compute capability 6.1; the kernels need 7.5 (Turing) or newer")
    report, _ = told(root(DESKTOP), probes({"torchscript_cuda": ["fp32"]}, old))
    assert "need 7.5" in report["findings"][0]["what"]


def test_a_server_and_a_machine_that_tells_nothing(root: Callable[[dict[str, str]], Path]) -> None:
    cpu = machine(root(SERVER)).cpu
    assert cpu.features == ("avx2", "avx512f", "avx512_vnni", "amx_int8", "amx_bf16")
    ready = Probe("ready", facts={"precisions": ["int8", "bf16"]})
    assert precisions("openvino", ready, machine(root(SERVER)), NO_DRIVER)["int8"] == "with AMX"
    bare = machine(root({}) / "nowhere")
    assert bare.memory_gb is None and bare.jetson is None and not bare.cpu.features
    assert "measure it" in precisions("openvino", ready, bare, NO_DRIVER)["int8"]


def test_nothing_can_run(root: Callable[[dict[str, str]], Path]) -> None:
    broken = Probe("broken", "libtorch.so: file too short. Reinstall it")
    report, text = told(root(SERVER), probes({}, torchscript=broken))
    assert fixes(report) == [("broken", 'pip install "posert[torch]"'), ("missing", 'pip install "posert[openvino]"')]
    assert report["uses"] is None and "file too short" in text


def test_two_packages_in_one_folder(root: Callable[[dict[str, str]], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_installed", lambda: {"onnxruntime", "onnxruntime-gpu"})
    (finding,) = diagnose(machine(root(SERVER)), probes({"onnxruntime": ["fp32"]}))
    assert finding.level == "broken" and finding.fix.startswith("pip uninstall -y onnxruntime onnxruntime-gpu")


@pytest.mark.parametrize(
    ("source", "state", "reason"),
    [
        ("raise OSError('libnvinfer.so.10: cannot open shared object file')", "broken", "cannot open shared object"),
        ("raise ImportError('undefined symbol: nvinfer')", "broken", "undefined symbol"),
        ("import ctypes; ctypes.string_at(0)", "broken", "ends the process by SIGSEGV"),
        ("raise RuntimeError('no reason')", "broken", "no reason"),
        ("import time; time.sleep(60)", "broken", "did not load within"),
        ("__version__ = '10.3.0'; print('noise on standard output')", "cannot run", "no NVIDIA driver here"),
    ],
)
def test_a_library_that_is_broken_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, state: str, reason: str
) -> None:
    if "POSERT_LIBCUDA" in os.environ:
        pytest.skip("a driver is given")
    (tmp_path / "tensorrt.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    seen = probe("tensorrt", seconds=2.0 if "sleep" in source else 120.0)
    if seen.state == "ready":
        pytest.skip("there is a GPU here")
    assert seen.state == state and reason in seen.reason
    assert state != "broken" or 'pip install "posert[tensorrt]"' in seen.reason


def test_a_tensorrt_that_is_too_old(root: Callable[[dict[str, str]], Path]) -> None:
    """As JetPack 6.0 brings it: in the system's folders, or seen by this Python."""
    old = {n.replace("10", "8"): text for n, text in ORIN.items() if "libnvinfer" in n}
    files = {n: text for n, text in ORIN.items() if "libnvinfer" not in n}
    what = "TensorRT 8.3 is too old: posert needs 10.1 or later (JetPack 6.1)"
    report, _ = told(root({**files, **old}), probes({"onnxruntime": ["fp32"]}, gpu(8, 7)))
    assert report["findings"][0] == {"level": "missing", "what": what, "fix": "install JetPack 6.1 or later"}
    seen = Probe("cannot run", what.replace("8.3", "8.6"), {"version": "8.6.2", "precisions": ["fp16"]})
    report, text = told(root(files), probes({"onnxruntime": ["fp32"]}, gpu(8, 7), tensorrt=seen))
    assert report["findings"][0]["what"] == seen.reason and seen.reason in text


ECHO = """
from posert.runtime.backends import Backend
BACKEND = Backend(name="echo", library="json", precisions={"fp32": "fp32"}, rank=1, open=lambda *given: None)
"""


@pytest.mark.parametrize("way", ["a file in the folder", "a package with an entry point"])
def test_one_more_backend(
    way: str,
    tmp_path: Path,
    install_plugin: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`posert doctor` called each backend broken whose library it did not know by name."""
    if way == "a file in the folder":
        folder = tmp_path / "dropped"
        folder.mkdir()
        (folder / "echo.py").write_text(ECHO)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
        path = tmp_path / "customized"
        path.mkdir()
        lines = f"import posert.runtime.backends as package\npackage.__path__.append({str(folder)!r})\n"
        (path / "sitecustomize.py").write_text(lines)
    else:
        path = install_plugin("posert-echo", ECHO, "posert.backends", echo="posert_echo:BACKEND")
    monkeypatch.setenv("PYTHONPATH", str(path))
    try:
        assert main(["doctor", "--json"]) == 0
    finally:
        sys.modules.pop("posert.runtime.backends.echo", None)
    report = json.loads(capsys.readouterr().out)
    row = report["backends"][0]
    assert (row["backend"], row["state"], report["uses"]) == ("echo", "ready", "echo")
    assert row["precisions"] == {"fp32": "yes"} and row["facts"]["version"] == json.__version__


def test_plug_ins_that_fail_are_named(
    install_plugin: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for group in GROUPS:
        noun = group.removeprefix("posert.")
        path = install_plugin(f"their-{noun}", "import no_such_library", group, toy=f"their_{noun}:SPEC")
    monkeypatch.setenv("PYTHONPATH", str(path))
    assert main(["doctor", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["uses"] in INSTALLED
    broken = {f["fix"]: f["what"] for f in report["findings"] if f["level"] == "broken"}
    assert len(broken) == len(GROUPS) == 8
    for group in GROUPS:
        package_name = f"their-{group.removeprefix('posert.')}"
        what = broken[f"pip install --force-reinstall {package_name}"]
        assert f"{group}: toy ({package_name}) does not import: ModuleNotFoundError" in what


def test_a_plug_in_that_crashes_is_a_finding(
    install_plugin: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "import ctypes; ctypes.string_at(0)"
    path = install_plugin("their-heads", source, "posert.heads", toy="their_heads:HEAD")
    monkeypatch.setenv("PYTHONPATH", str(path))
    seen = probe("posert.heads")
    assert seen.state == "broken" and "SIGSEGV" in seen.reason and "--force-reinstall their-heads" in seen.reason


def test_the_command_runs_here(capsys: pytest.CaptureFixture[str]) -> None:
    """On whatever machine this is."""
    status = main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert [row["backend"] for row in report["backends"]] == backends()
    broken = any(f["level"] == "broken" for f in report["findings"])
    assert status == (0 if report["uses"] and not broken else 1)
    assert report["machine"]["cpu"]["cores"] >= 1
    ready = [row for row in report["backends"] if row["state"] == "ready"]
    assert all(row["facts"]["version"] and row["precisions"] for row in ready)
    assert all(row["reason"] for row in report["backends"] if row["state"] != "ready")
