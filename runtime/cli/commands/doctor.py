"""`posert doctor`: check this machine, what each backend can run on it, and how to fix what does not work."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def run(args: argparse.Namespace) -> int:
    """Returns 1 if no backend can run here, or an installed one is broken."""
    from ...doctor import examine, probe_all
    from ...system.machine import machine

    report = examine(machine(Path("/")), probe_all())
    print(json.dumps(report) if args.json else "\n".join(describe(report)))
    return 0 if report["uses"] and not any(f["level"] == "broken" for f in report["findings"]) else 1


def describe(report: Mapping[str, Any]) -> list[str]:
    """The report for a terminal."""
    m, gpu = report["machine"], report["gpu"]
    cpu = m["cpu"]
    clock = f", governor {cpu['governor']}" if cpu["governor"] else ""
    lines = [
        f"machine    {m['system']}, {m['architecture']}, Python {m['python']}, {m['memory_gb'] or '?'} GB",
        f"processor  {cpu['name']}, {cpu['cores']} cores{clock}",
        f"           {', '.join(cpu['features']) or 'no known vector instructions'}",
    ]
    if m["jetson"]:
        lines += _jetson(m["jetson"])
    if gpu["state"] == "ready":
        f = gpu["facts"]
        capability = ".".join(map(str, f["capability"]))
        lines.append(f"GPU        {f['name']}, compute capability {capability}, {f['memory_gb']} GB")
    else:
        lines.append(f"GPU        {gpu['state']}: {gpu['reason']}")
    lines.append(f"driver     {m['driver'] or 'none loaded'}, CUDA {gpu['facts'].get('cuda', 'none')}")
    if m["tensorrt"]:
        lines.append(f"TensorRT   {', '.join(m['tensorrt'])} in the system's folders")
    opencv = report["opencv"]
    lines.append(f"OpenCV     {opencv['facts'].get('version') or opencv['reason']}")
    lines += ["", "backends, the preferred first"]
    for row in report["backends"]:
        lines += _backend(row, gpu)
    lines += ["", *_findings(report)]
    return lines


def _jetson(j: Mapping[str, Any]) -> list[str]:
    pack = j["jetpack"]
    libraries = f", with CUDA {pack['cuda']} and TensorRT {pack['tensorrt']}" if pack else ""
    modes = f" of {', '.join(j['power_modes'].values())}" if j["power_modes"] else ""
    return [
        f"Jetson     {j['name']} ({j['soc']}), Jetson Linux {j['l4t'] or 'unknown'}",
        f"JetPack    {pack.get('jetpack', 'unknown')}{libraries}",
        f"power      {j['power_mode'] or 'unknown'}{modes}; clocks {j['clocks'] or 'unknown'}",
    ]


def _backend(row: Mapping[str, Any], gpu: Mapping[str, Any]) -> list[str]:
    version = row["facts"].get("version", "")
    lines = [f"  {row['backend']:17} {row['state']} {version}".rstrip()]
    if row["reason"]:
        lines.append("      no GPU, see above" if row["reason"] == gpu["reason"] else f"      {row['reason']}")
    if row["state"] == "missing":
        return lines
    alike: dict[str, list[str]] = {}
    for name, note in row["precisions"].items():
        alike.setdefault(note, []).append(name)
    return lines + [f"      {', '.join(names):9} {note}" for note, names in alike.items()]


def _findings(report: Mapping[str, Any]) -> list[str]:
    lines = [f"{f['level']}: {f['what']}\n    {f['fix']}" for f in report["findings"]]
    if report["uses"]:
        lines.append(f"posert runs here, by default on {report['uses']}. For one bundle: posert verify BUNDLE")
    return lines


COMMAND = Command("Show what can run on this machine, and how to enable the rest", "deploy", add_arguments, run)
