"""A result of `posert bench` as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .stages import DECODE_IMAGE, END_TO_END, INFERENCE
from .statistics import per_round, ratio

_FEW = 100  # calls below which the 99th percentile is the longest one
_HEAD = "", "people", "p50 ms", "p95", "p99", "ms/person", "people/s", "x inference", "J/person", "MB", "AP"
_STAGES = DECODE_IMAGE, "crop", "upload", INFERENCE, "decode", "download"

_SETTINGS = {"GPU": "gpu", "clock": "cpu_mhz", "highest clock": "cpu_mhz_limit"}
_SETTINGS |= {"governor": "governor", "throttling counters": "throttling", "energy": "energy"}

Result = dict[str, Any]


def table(result: Result) -> list[str]:
    """The machine, a row of figures for each cell, its stages, notes, and what could not be measured and why."""
    s, m = result["settings"], result["machine"]
    flip = "with flip test" if s["flip_test"] else "no flip test"
    threads = f", {s['threads']} threads" if s["threads"] else ""
    pinned = f", on processors {','.join(map(str, s['cpus']))}" if s["cpus"] else ""
    cpu, j = m["cpu"], m["jetson"]
    jetson = f", {j['name']}, power mode {j['power_mode']}, clocks {j['clocks']}" if j else ""
    lines = [
        f"{result['bundle']['name']}, end to end, {flip}, {s['rounds']} rounds{threads}{pinned}",
        f"{result['date']}, {cpu['name']}, {cpu['cores']} cores{jetson}; load before: {m['load']}",
        *(f"{name}: {_value(m[key])}" for name, key in _SETTINGS.items()),
        "",
    ]
    measured = [c for c in result["cells"] if c.get("rows")]
    body = [row for cell in measured for row in _figures(cell)]
    if body:
        lines += [*aligned([_HEAD, *body]), ""]
    stages = [row for cell in measured if cell["mode"] == "latency" for row in _stages(cell)]
    if stages:
        lines += [*aligned([("stages, ms", "people", *_STAGES), *stages]), ""]
    lines += _notes(measured)
    lines += [f"not measured: {_name(c)}: {c['error']}" for c in result["cells"] if "error" in c]
    return [*lines, "interrupted: only these rows were measured"] if result["interrupted"] else lines


def _name(cell: dict[str, Any]) -> str:
    return " ".join(cell[key] for key in ("backend", "precision", "mode") if key in cell)


def _value(value: Any) -> str:
    return f"{value:.0f} MHz" if isinstance(value, float | int) else str(value)


def _figures(cell: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    rows = {(r["stage"], r["people"]): r for r in cell["rows"]}
    for (stage, people), row in rows.items():
        if stage != END_TO_END or not row["seconds"]:
            continue
        # A call in throughput mode is many frames: the latency of one of them is not seen there.
        calls = np.concatenate(row["seconds"]) / row["frames"]
        p50, p95, p99 = np.percentile(calls, [50, 95, 99]) * 1e3
        spent = [j / len(s) for j, s in zip(row["joules"], row["seconds"], strict=True) if j is not None]
        yield (
            _name(cell),
            str(people),
            f"{p50:.2f}",
            f"{p95:.2f}",
            f"{p99:.2f}{'*' if len(calls) < _FEW else ''}",
            f"{p50 / people:.2f}",
            f"{people / calls.mean():.1f}",
            _times_inference(rows.get((INFERENCE, people)), row),
            f"{np.mean(spent) / row['frames'] / people:.3f}" if spent else "",
            "" if cell.get("peak_mb") is None else f"{cell['peak_mb']:.0f}",
            f"{cell['accuracy']:.4f}, {cell['ap_note']}" if cell["accuracy"] is not None else cell["ap_note"],
        )


def _times_inference(inference: dict[str, Any] | None, end_to_end: dict[str, Any]) -> str:
    if inference is None:
        return ""
    a, b = per_round(inference["seconds"]), per_round(end_to_end["seconds"])
    if len(a) < 6:
        return f"{np.median(b / a):.3f}"
    r = ratio(a, b)  # both of the same processes, whose luck is in both
    return f"{r.point:.3f} ({r.low:.3f}-{r.high:.3f})"


def _stages(cell: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    rows = [r for r in cell["rows"] if r["seconds"]]
    ms = {(r["stage"], r["people"]): f"{1e3 * np.median(per_round(r['seconds'])):.2f}" for r in rows}
    for people in sorted({p for _, p in ms if p}):
        cells = (ms.get((stage, 0 if stage == DECODE_IMAGE else people), "") for stage in _STAGES)
        yield (f"{cell['backend']} {cell['precision']}", str(people), *cells)


def _notes(measured: list[dict[str, Any]]) -> Iterator[str]:
    if any(len(s) * len(r["seconds"]) < _FEW for c in measured for r in c["rows"] for s in r["seconds"][:1]):
        yield f"* of fewer than {_FEW} calls: nearly the longest"
    if any(c["mode"] == "throughput" for c in measured):
        yield "throughput: time per frame of a run of frames, not the latency of one frame"
    if any(c["mode"] == "latency" for c in measured):
        yield "upload, download: empty where the network uses the host's memory"
    for c in measured:
        name = _name(c)
        if not c["steady"]:
            yield f"{name}: still changing by more than 5 % after the warm-up: the machine is not quiet"
        for unit in ("cpu_mhz", "gpu_mhz"):
            seen = [m[unit] for m in c["moments"] if unit in m]
            if seen:
                yield f"{name}: {unit[:3].upper()} at {min(seen):.0f} to {max(seen):.0f} MHz while it was measured"
        slowed = {k: v for k, v in c.get("throttled", {}).items() if v}
        reasons = {m["gpu_slowed_by"] for m in c["moments"] if "gpu_slowed_by" in m}
        if slowed or reasons:
            yield f"{name}: throttled: {', '.join([*(f'{k} +{v}' for k, v in slowed.items()), *sorted(reasons)])}"


def aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Lines of a table: the first and the last column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    last = len(widths) - 1
    padded = (
        [c.ljust(w) if i in (0, last) else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths, strict=True))]
        for r in rows
    )
    return ["  ".join(cells).rstrip() for cells in padded]
