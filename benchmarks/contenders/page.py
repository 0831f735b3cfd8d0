"""What came of a contest, as a table and as a plot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...export.report.plots import Series, bars

# The colours of the report, for a drawing that stands alone.
_STYLE = (
    "<style>svg{--ink:#1f2328;--soft:#5a6068;--rule:#d8dbe0;--fp16:#0b6e4f;--reference:#8a8f98}"
    "text{font-family:system-ui,sans-serif}</style>"
    '<rect width="100%" height="100%" fill="#fff"/>'
)

_WIDTHS = (15, 9, 21, 21, 21)


def table(result: Mapping[str, Any]) -> str:
    """Figures of each number of people, then what each row does and why a row is missing."""
    rows = result["rows"]
    ours = [name for name in ("posert fp32", "posert bf16", "posert int8") if _timed(result, name)]
    cpu, cores = result["machine"]["cpu"], result["machine"]["cores"]
    lines = [f"{result['bundle']}, frame to keypoints, {cpu} with {cores} cores"]
    for people, figures in result["summary"].items():
        head = ["ms per person", "p95", *(f"times {name}" for name in ours)]
        lines += ["", _line(f"{people} in a frame", head)]
        for name in rows:
            if name not in figures:
                continue
            f = figures[name]
            times = [f["times_ours"].get(other) for other in ours]
            cells = [f"{f['ms_per_person']:.1f}", f"{f['p95_ms_per_person']:.1f}", *(_ratio(t) for t in times)]
            lines.append(_line(name, cells))
    lines += ["", _line("against PyTorch", ["px p50", "p95", "max", "OKS", "MB"])]
    for name, row in rows.items():
        a = row.get("agreement")
        if a:
            memory = f"{row['peak_mb']:.0f}" if "peak_mb" in row else ""
            lines.append(
                _line(name, [*(f"{a['px'][q]:.3f}" for q in ("p50", "p95", "max")), f"{a['oks']:.5f}", memory])
            )
    lines.append("")
    for name, row in rows.items():
        if "does" in row:
            lines.append(f"{name}: {'; '.join(f'{key} {value}' for key, value in row['does'].items())}")
    for name, row in rows.items():
        if "missing" in row:
            lines.append(f"{name}: missing: {_short(row['missing'])}")
    return "\n".join(lines)


def plot(result: Mapping[str, Any], people: str) -> str:
    """Milliseconds per person of each row, as an SVG file; how many times as long as our int8 behind each bar."""
    figures = result["summary"][people]
    names = sorted(figures, key=lambda name: figures[name]["ms_per_person"])
    series = [Series(name, "fp16" if name.startswith("posert") else "reference") for name in names]
    values = [figures[name]["ms_per_person"] for name in names]
    notes = [f"{figures[name]['ms_per_person']:.1f} ms{_times(figures[name])}" for name in names]
    drawing = bars(series, values, notes, f"ms per person, {people} in a frame")
    head, body = drawing.split(">", 1)
    return f'{head} xmlns="http://www.w3.org/2000/svg">{_STYLE}{body}'


def _times(figure: Mapping[str, Any]) -> str:
    seen = figure["times_ours"].get("posert int8")
    return f", {seen[0]:.1f}x" if seen else ""


def _timed(result: Mapping[str, Any], name: str) -> bool:
    return any(name in figures for figures in result["summary"].values())


def _ratio(times: list[float] | None) -> str:
    return f"{times[0]:.2f} ({times[1]:.2f}-{times[2]:.2f})" if times else ""


def _line(name: str, cells: list[str]) -> str:
    return f"  {name:26}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=False))


def _short(reason: str) -> str:
    """The line of a longer message that says what happened."""
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if line.lower().startswith("error")), lines[0] if lines else reason)
