"""AP against time as a drawing: a point for each cell, and the line of those that no other beats in both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

# Told apart by people who see few colours (Okabe and Ito).
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 900, 480, 70, 20, 20, 60
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#333}.end{text-anchor:end}.middle{text-anchor:middle}"
    ".grid{stroke:#ddd}.line{fill:none;stroke:#888;stroke-dasharray:4 3}"
)


@dataclass(frozen=True)
class Point:
    """One cell.

    Attributes:
        label: what ran.
        ms: per person.
        ap: its AP.
        bundle: one colour for each.
        hollow: drawn as a ring.
    """

    label: str
    ms: float
    ap: float
    bundle: str
    hollow: bool


def best(points: Sequence[Point]) -> list[Point]:
    """Those that no other beats in both time and AP, the fastest first."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (p.ms, -p.ap)):
        if not kept or point.ap > kept[-1].ap:
            kept.append(point)
    return kept


def frontier(points: Sequence[Point]) -> str:
    """An SVG file; time on a logarithmic axis, the labels of the best beside them."""
    if not points:
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} 40"><text x="9" y="25">nothing</text></svg>'
        )
    low_x, high_x = math.log10(min(p.ms for p in points)) - 0.05, math.log10(max(p.ms for p in points)) + 0.05
    low_y, high_y = min(p.ap for p in points), max(p.ap for p in points)
    room = max(0.1 * (high_y - low_y), 0.002)
    low_y, high_y = low_y - room, high_y + room

    def x(ms: float) -> float:
        return _LEFT + (math.log10(ms) - low_x) / (high_x - low_x) * (_WIDTH - _LEFT - _RIGHT)

    def y(ap: float) -> float:
        return _TOP + (high_y - ap) / (high_y - low_y) * (_HEIGHT - _TOP - _BOTTOM)

    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    body = []
    for ap in ticks(low_y, high_y, 6):
        body.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y(ap):.1f}" y2="{y(ap):.1f}"/>')
        body.append(f'<text class="end" x="{_LEFT - 8}" y="{y(ap) + 4:.1f}">{ap:g}</text>')
    for ms in (m * 10.0**e for e in range(-2, 5) for m in (1, 2, 5)):
        if low_x <= math.log10(ms) <= high_x:
            body.append(f'<line class="grid" x1="{x(ms):.1f}" x2="{x(ms):.1f}" y1="{_TOP}" y2="{bottom}"/>')
            body.append(f'<text class="middle" x="{x(ms):.1f}" y="{bottom + 18}">{ms:g}</text>')
    body.append(f'<text class="end" x="{right}" y="{bottom + 40}">ms per person, frame to keypoints</text>')
    body.append(f'<text x="{_LEFT - 50}" y="{_TOP - 6}">AP</text>')
    kept = best(points)
    path = " ".join(f"{x(p.ms):.1f},{y(p.ap):.1f}" for p in kept)
    body.append(f'<polyline class="line" points="{path}"/>')
    bundles = list(dict.fromkeys(p.bundle for p in points))
    for p in points:
        color = _COLORS[bundles.index(p.bundle) % len(_COLORS)]
        body.append(
            f'<circle cx="{x(p.ms):.1f}" cy="{y(p.ap):.1f}" r="5" stroke="{color}" stroke-width="2" '
            f'fill="{"#fff" if p.hollow else color}"><title>{escape(p.bundle)} {escape(p.label)}: AP {p.ap:.4f}, '
            f"{p.ms:.2f} ms per person</title></circle>"
        )
    for p in kept:
        end = x(p.ms) > 0.7 * _WIDTH
        side, kind = (-9, ' class="end"') if end else (9, "")
        body.append(f'<text{kind} x="{x(p.ms) + side:.1f}" y="{y(p.ap) - 8:.1f}">{escape(p.label)}</text>')
    for i, name in enumerate(bundles):
        body.append(f'<circle cx="{_LEFT + 8}" cy="{_HEIGHT - 12 - 18 * i}" r="5" fill="{_COLORS[i % len(_COLORS)]}"/>')
        body.append(f'<text x="{_LEFT + 20}" y="{_HEIGHT - 8 - 18 * i}">{escape(name)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="AP against time per person"><style>{_STYLE}</style>'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>{"".join(body)}</svg>\n'
    )


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers in a range, about `count` of them."""
    raw = (high - low) / max(1, count)
    power = 10.0 ** np.floor(np.log10(raw))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first, last = int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9))
    return [float(f"{i * step:.6g}") for i in range(first, last + 1)]
