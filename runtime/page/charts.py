"""The charts of the page: SVG that stretches to the width there is, with labels in HTML, which does not stretch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from .series import Lanes, Series

LANES = 40
JOINTS = 30
_LEVELS = 10  # of the colour of a score
_HUES = 8  # of identities, in style.css
_USUAL = 0.95  # of the intervals take at most two thirds of the height; a rare long one would flatten the others

Double = NDArray[np.float64]


def axis(frames: int, fps: float) -> str:
    """The frame numbers below a chart, with times if there is a frame rate."""
    ticks = []
    for share in (0, 25, 50, 75, 100) if frames > 4 else (0, 100):
        frame = round((frames - 1) * share / 100)
        time = f"<i> · {clock(frame / fps)}</i>" if fps else ""
        ticks.append(f'<span style="left:{share}%">{frame}{time}</span>')
    return f'<div class="axis">{"".join(ticks)}</div>'


def clock(seconds: float) -> str:
    """A time as "1:02:03", "2:03" or "3.4 s"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def people(series: Series) -> str:
    """The number of people over time: the most in each interval, and their mean."""
    most = series.maxima[:, 0]
    mean = series.sums[:, 1] / np.maximum(series.sums[:, 0], 1)
    top = max(1.0, float(most.max(initial=1)))
    areas = [("most", most / top), ("mean", mean / top)]
    shapes = "".join(f'<path class="{name}" d="{_steps(values, series)}"/>' for name, values in areas)
    failed = _marks(series.sums[:, 2] > 0, series)
    return _row(f"<b>{top:.0f}</b><b>0</b>", _svg(series, 1, shapes + failed), "tall people")


def lanes(found: Lanes, series: Series) -> str:
    """One lane per identity: where it was seen, paler where it was not in every frame."""
    rows = []
    for number, seen in found.longest(LANES):
        seen = seen[: series.used]
        share = seen / np.maximum(series.sums[:, 0], 1)
        levels = np.where(seen > 0, np.ceil(np.clip(share, 0.01, 1) * 4), 0).astype(int)
        bars = "".join(
            f'<rect x="{first}" y="0" width="{_width(first, last, series)}" height="1" class="l{level}"/>'
            for first, last, level in _runs(levels)
            if level
        )
        where = np.flatnonzero(seen)
        last_frame = min((int(where[-1]) + 1) * series.length, series.frames) - 1
        title = f"id {number}: {seen.sum():,} frames between {where[0] * series.length} and {last_frame}"
        hue = f"lane hue{number % _HUES}"
        rows.append(
            _row(f"<span>id {number}</span>", _svg(series, 1, bars, title), hue, f"<span>{seen.sum():,}</span>")
        )
    return "".join(rows)


def joints(names: Sequence[str], series: Series) -> tuple[str, int]:
    """The mean score of each joint over time. Returns the chart and the number of joints in it, the lowest ones."""
    counts = series.sums[:, 1]
    scores = series.sums[:, 3:].T / np.maximum(counts, 1)
    overall = series.sums[:, 3:].sum(axis=0) / max(1.0, float(counts.sum()))
    shown = sorted(sorted(range(len(names)), key=lambda k: float(overall[k]))[:JOINTS])
    rows = []
    for k in shown:
        levels = np.where(counts > 0, np.clip(np.round(scores[k] * _LEVELS), 0, _LEVELS) + 1, 0).astype(int)
        cells = "".join(
            f'<rect x="{first}" y="0" width="{_width(first, last, series)}" height="1" class="s{level - 1}"/>'
            for first, last, level in _runs(levels)
            if level
        )
        name = escape(names[k].replace("_", " "))
        value = f"<span>{overall[k]:.2f}</span>"
        rows.append(_row(f"<span>{name}</span>", _svg(series, 1, cells, f"{name}: mean score"), "joint", value))
    return "".join(rows), len(shown)


def speed(stages: Mapping[str, Series], series: Series) -> str:
    """The time per frame over time, by stage, one on top of the other."""
    frames = np.full(series.used, float(series.length))
    if series.used:
        frames[-1] = series.frames - (series.used - 1) * series.length
    parts = [1e3 * one.sums[:, 0] / frames for one in stages.values()]
    total = np.sum(parts, axis=0) if parts else np.zeros(series.used)
    usual = float(np.quantile(total, _USUAL)) if total.size else 0.0
    top = max(1e-3, min(float(total.max(initial=0)), 1.5 * usual))
    shapes, below = "", np.zeros(series.used)
    for number, part in enumerate(parts):
        above = below + part
        shapes += f'<path class="stage{number % 8}" d="{_steps(np.minimum(above, top) / top, series, below / top)}"/>'
        below = np.minimum(above, top)
    return _row(f"<b>{number_of(top)} ms</b><b>0</b>", _svg(series, 1, shapes), "tall")


def number_of(value: float) -> str:
    """A number for a table: three significant digits."""
    if value == 0 or not np.isfinite(value):
        return "0" if value == 0 else "–"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _row(label: str, chart: str, kind: str, value: str = "") -> str:
    """A label, a chart that stretches, and a value at its right."""
    return f'<div class="row {kind}"><div class="label">{label}</div>{chart}<div class="value">{value}</div></div>'


def _svg(series: Series, height: float, shapes: str, title: str = "") -> str:
    width = series.frames / series.length
    named = f"<title>{title}</title>" if title else ""
    return (
        f'<div class="track"><svg viewBox="0 0 {width:g} {height:g}" preserveAspectRatio="none" '
        f'shape-rendering="crispEdges">{named}{shapes}</svg><i class="cursor"></i></div>'
    )


def _steps(values: Double, series: Series, base: Double | None = None) -> str:
    """A stepped area from `base` (0) to `values`, both 0 to 1, upwards."""
    low = np.zeros(len(values)) if base is None else base
    edges = [(first, min(float(first + 1), series.frames / series.length)) for first in range(len(values))]
    upper = [f"L{a:g} {1 - v:.4g}L{b:g} {1 - v:.4g}" for (a, b), v in zip(edges, values, strict=True)]
    lower = [f"L{b:g} {1 - v:.4g}L{a:g} {1 - v:.4g}" for (a, b), v in zip(edges, low, strict=True)]
    return "M" + "".join([*upper, *reversed(lower)])[1:] + "Z"


def _marks(where: NDArray[np.bool_], series: Series) -> str:
    """Marks along the upper edge, such as of failures."""
    return "".join(
        f'<rect class="failed" x="{first}" y="0" width="{_width(first, last, series)}" height="0.06"/>'
        for first, last, flag in _runs(where.astype(int))
        if flag
    )


def _runs(levels: NDArray[np.int_]) -> Iterable[tuple[int, int, int]]:
    """Runs of equal values: first index, index behind the last, value."""
    cuts = [0, *(np.flatnonzero(np.diff(levels)) + 1).tolist(), len(levels)]
    return [(a, b, int(levels[a])) for a, b in zip(cuts, cuts[1:], strict=False) if b > a]


def _width(first: int, last: int, series: Series) -> str:
    return f"{min(float(last), series.frames / series.length) - first:g}"
