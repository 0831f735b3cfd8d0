"""Plots as SVG text: no library, no script, colours from the page's style sheet, one call per width.

A drawing that is scaled down to a phone cannot be read, so every plot is drawn for the width at which it is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

_NARROW = 480  # px below which labels stand above their bars instead of beside them
_LABELS = 165  # px that they take beside
_ROW = 26
_AXIS = 40
# px of the frame: differences below it come from float32 rounding of the coordinates themselves.
DRIFT_FLOOR = 1e-3


@dataclass(frozen=True)
class Series:
    """How one candidate looks in every plot.

    Attributes:
        label: its name.
        color: a CSS colour.
        dash: an SVG dash pattern, empty for a solid line.
    """

    label: str
    color: str
    dash: str = ""


def forest(
    series: Sequence[Series], drops: Sequence[float], intervals: Sequence[tuple[float, float]], limit: float, width: int
) -> str:
    """AP drops with their intervals, against the drop that is allowed.

    Args:
        series: the rows, N.
        drops: N drops.
        intervals: N (low, high).
        limit: the allowed drop.
        width: px of the plot.
    """
    ends = [v for interval in intervals for v in interval]
    low, high = min([*ends, *drops, -0.25 * limit]), max([*ends, *drops, 1.25 * limit])
    rows = _Rows(series, width, low - 0.05 * (high - low), high + 0.05 * (high - low))
    body = [
        f'<rect class="zone" x="{rows.x(limit):.1f}" y="0" width="{rows.right - rows.x(limit):.1f}" '
        f'height="{rows.bottom}"/>',
        *rows.axis("AP lost"),
        f'<line class="zero" x1="{rows.x(0):.1f}" x2="{rows.x(0):.1f}" y1="0" y2="{rows.bottom}"/>',
        f'<line class="limit" x1="{rows.x(limit):.1f}" x2="{rows.x(limit):.1f}" y1="0" y2="{rows.bottom}"/>',
    ]
    for i, (s, drop, (a, b)) in enumerate(zip(series, drops, intervals, strict=True)):
        y = rows.y(i)
        body.append(
            f'<g style="color:{s.color}"><title>{escape(s.label)}: {drop:+.4f} [{a:+.4f}, {b:+.4f}]</title>'
            f'<line class="whisker" x1="{rows.x(a):.1f}" x2="{rows.x(b):.1f}" y1="{y}" y2="{y}"/>'
            + "".join(
                f'<line class="whisker" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 4}" y2="{y + 4}"/>'
                for x in (rows.x(a), rows.x(b))
            )
            + f'<circle cx="{rows.x(drop):.1f}" cy="{y}" r="5" fill="currentColor"/></g>'
        )
    return rows.svg(body, "AP drop of each graph with its interval")


def bars(series: Sequence[Series], values: Sequence[float], notes: Sequence[str], width: int, unit: str) -> str:
    """Horizontal bars from zero, with a note behind each."""
    room = 1.0 + (0.42 if width < _NARROW else 0.22)  # for the notes behind the longest bar
    rows = _Rows(series, width, 0.0, max([*values, 1e-9]) * room)
    body = rows.axis(unit)
    for i, (s, value, note) in enumerate(zip(series, values, notes, strict=True)):
        y, end = rows.y(i), rows.x(value)
        body.append(
            f'<rect x="{rows.left}" y="{y - 7}" width="{max(1.0, end - rows.left):.1f}" height="14" rx="2" '
            f'style="fill:{s.color}"/><text class="value" x="{end + 6:.1f}" y="{y + 4}">{escape(note)}</text>'
        )
    return rows.svg(body, f"{unit} of each graph")


def cumulative(series: Sequence[Series], samples: Sequence[NDArray[np.floating]], width: int) -> str:
    """Share of joints that moved at most so far: one curve each, distance on a logarithmic axis.

    Args:
        series: the curves, N.
        samples: N one-dimensional arrays of distances, px of the frame, finite.
        width: px of the plot.
    """
    height, left, right, top, bottom = 300, 50, width - 12, 10, 300 - _AXIS
    largest = max([float(s.max()) for s in samples if s.size] or [1.0])
    decades = range(round(np.log10(DRIFT_FLOOR)), max(1, int(np.ceil(np.log10(max(largest, 1e-9)))) + 1))
    low, high = decades[0], decades[-1]
    # A decoder that steps by quarters of a cell leaves most joints exactly where they were: then the axis of shares
    # begins just below where the lowest curve does.
    still = min([float((s <= DRIFT_FLOOR).mean()) for s in samples if s.size] or [0.0])
    base = 0.0 if still < 0.5 else np.floor(20 * still - 0.5) / 20
    step = 0.25 if base == 0 else 0.05 if base >= 0.7 else 0.1
    shares = np.arange(1, base - 1e-9, -step)

    def x(value: NDArray[np.floating]) -> NDArray[np.floating]:
        return left + (np.log10(np.maximum(value, DRIFT_FLOOR)) - low) / (high - low) * (right - left)

    def y(share: float) -> float:
        return bottom - (share - base) / (1 - base) * (bottom - top)

    body = []
    for share in shares:
        body.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y(share):.1f}" y2="{y(share):.1f}"/>')
        body.append(f'<text class="tick end" x="{left - 6}" y="{y(share) + 4:.1f}">{share:.0%}</text>')
    if base < 0.95:
        body.append(f'<line class="grid strong" x1="{left}" x2="{right}" y1="{y(0.95):.1f}" y2="{y(0.95):.1f}"/>')
    for decade in decades:
        at = left + (decade - low) / (high - low) * (right - left)
        text = f"≤{10.0**decade:g}" if decade == low else f"{10.0**decade:g}"
        body.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{top}" y2="{bottom}"/>')
        body.append(f'<text class="tick middle" x="{at:.1f}" y="{bottom + 18}">{text}</text>')
    body.append(f'<text class="tick end" x="{right}" y="{height - 4}">px of the frame</text>')
    steps = np.linspace(0, 1, 401)
    for s, sample in zip(series, samples, strict=True):
        if not sample.size:
            continue
        places = x(np.quantile(sample, steps))
        path = " ".join(f"{a:.1f},{y(max(b, base)):.1f}" for a, b in zip(places, steps, strict=True))
        median, p95 = np.quantile(sample, [0.5, 0.95])
        body.append(
            f'<polyline class="curve" points="{path}" style="stroke:{s.color}" stroke-dasharray="{s.dash}">'
            f"<title>{escape(s.label)}: median {median:.3g} px, 95 % within {p95:.3g} px</title></polyline>"
        )
    return svg(width, height, body, "share of joints against the distance they moved")


def swatch(s: Series) -> str:
    """A short piece of a curve, for the legend."""
    return svg(
        28,
        10,
        [f'<line x1="1" x2="27" y1="5" y2="5" class="curve" style="stroke:{s.color}" stroke-dasharray="{s.dash}"/>'],
        s.label,
        fixed=True,
    )


def pose(
    image: str,
    size: tuple[int, int],
    xy: NDArray[np.floating],
    shown: NDArray[np.bool_],
    limbs: Sequence[tuple[int, int]],
    sides: Sequence[str],
    before: NDArray[np.floating] | None = None,
) -> str:
    """A person over a picture.

    Args:
        image: id of an `<image>` in the page.
        size: width and height of the picture, px; the drawing has its coordinates.
        xy: `(K, 2)` joints, px of the picture.
        shown: `(K,)` joints to draw.
        limbs: pairs of joints.
        sides: "left", "right" or "centre" of each joint, then of each limb: a class of the style sheet.
        before: `(K, 2)` where the joints were, to draw how far they moved.
    """
    width, height = size
    unit = max(size) / 100
    body = [f'<use href="#{image}"/>']
    for (a, b), side in zip(limbs, sides[len(xy) :], strict=True):
        if shown[a] and shown[b]:
            body.append(_line(xy[a], xy[b], f"limb {side}", 0.9 * unit))
    for joint in np.flatnonzero(shown).tolist():
        if before is not None:
            body.append(_line(before[joint], xy[joint], "moved", 0.9 * unit))
        x, y = xy[joint]
        body.append(f'<circle class="joint {sides[joint]}" cx="{x:.1f}" cy="{y:.1f}" r="{1.3 * unit:.2f}"/>')
    return (
        f'<svg class="pose" viewBox="-0.5 -0.5 {width} {height}" role="img" aria-label="a person with joints">'
        f"{''.join(body)}</svg>"
    )


class _Rows:
    """A plot of rows under each other that share an axis."""

    def __init__(self, series: Sequence[Series], width: int, low: float, high: float) -> None:
        self.series, self.width = series, width
        self.narrow = width < _NARROW
        self.left, self.right = (8 if self.narrow else _LABELS), width - 12
        self.step = _ROW + 18 if self.narrow else _ROW
        self.bottom = self.step * len(series) + 6
        self.low, self.high = low, high

    def x(self, value: float) -> float:
        return self.left + (value - self.low) / (self.high - self.low) * (self.right - self.left)

    def y(self, row: int) -> int:
        return self.step * row + (self.step - 10 if self.narrow else self.step // 2 + 3)

    def axis(self, unit: str) -> list[str]:
        body = []
        for i, s in enumerate(self.series):
            x, y, kind = (self.left, self.y(i) - 13, "") if self.narrow else (self.left - 10, self.y(i) + 4, " end")
            body.append(f'<text class="label{kind}" x="{x}" y="{y}">{escape(s.label)}</text>')
        for value in ticks(self.low, self.high, 4 if self.narrow else 7):
            at = self.x(value)
            body.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{self.bottom}"/>')
            body.append(f'<text class="tick middle" x="{at:.1f}" y="{self.bottom + 15}">{value:g}</text>')
        body.append(f'<text class="tick end" x="{self.right}" y="{self.bottom + 34}">{escape(unit)}</text>')
        return body

    def svg(self, body: list[str], label: str) -> str:
        return svg(self.width, self.bottom + _AXIS, body, label)


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers in a range, about `count` of them."""
    raw = (high - low) / max(1, count)
    power = 10.0 ** np.floor(np.log10(raw))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first, last = int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9))
    return [float(f"{i * step:.6g}") for i in range(first, last + 1)]


def _line(a: NDArray[np.floating], b: NDArray[np.floating], kind: str, thickness: float) -> str:
    return (
        f'<line class="{kind}" x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}" '
        f'stroke-width="{thickness:.2f}"/>'
    )


def svg(width: int, height: int, body: Sequence[str], label: str, fixed: bool = False) -> str:
    """A drawing of a size in px; scaled to the width of the page unless it is fixed."""
    size = f'width="{width}" height="{height}"' if fixed else f'style="max-width:{width}px"'
    return (
        f'<svg class="plot" viewBox="0 0 {width} {height}" {size} role="img" aria-label="{escape(label)}">'
        f"{''.join(body)}</svg>"
    )
