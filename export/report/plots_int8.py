"""Plots about int8: what accuracy costs in time, and the ranges of the activations. As in plots.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from .plots import svg, ticks

_LEFT, _TOP, _BOTTOM = 64, 14, 44
_LETTER = 7.5  # px of width, about


@dataclass(frozen=True)
class Point:
    """One network of the trade-off.

    Attributes:
        label: what it is.
        cost: time per person or share of operations in float.
        drop: of AP.
        interval: of the drop, or None.
        kind: a class of the style sheet: "best", "tried" or "float".
    """

    label: str
    cost: float
    drop: float
    interval: tuple[float, float] | None
    kind: str


def tradeoff(points: Sequence[Point], limit: float, unit: str, width: int) -> str:
    """AP lost against cost, one dot per network, with the loss that is allowed.

    Args:
        points: the networks.
        limit: the allowed drop.
        unit: of the cost.
        width: px of the plot.
    """
    height, right = 290, width - 16
    bottom = height - _BOTTOM
    ends = [v for p in points for v in (p.interval or ())] + [p.drop for p in points] + [-limit, 1.5 * limit]

    def bent(drop: float) -> float:
        """Even within the allowed loss, logarithmic beyond: what failed by far does not flatten what was decided."""
        return float(np.arcsinh(2 * drop / max(limit, 1e-4)))

    low, high = bent(min(ends)), bent(max(ends))
    low, high = low - 0.04 * (high - low), high + 0.04 * (high - low)
    costs = [p.cost for p in points]
    margin = 0.12 * (max(costs) - min(costs)) or 0.1 * max(costs) or 1.0
    near, far = max(0.0, min(costs) - margin), max(costs) + margin

    def x(cost: float) -> float:
        return _LEFT + (cost - near) / (far - near) * (right - _LEFT)

    def y(drop: float) -> float:
        return bottom - (bent(drop) - low) / (high - low) * (bottom - _TOP)

    body = [
        f'<rect class="zone" x="{_LEFT}" y="{_TOP}" width="{right - _LEFT}" height="{max(0.0, y(limit) - _TOP):.1f}"/>'
    ]
    taken: list[float] = []
    for value in (0.0, limit, -limit, *(sign * 10.0**k for k in range(-3, 1) for sign in (1, -1))):
        level = y(value)
        if _TOP <= level <= bottom and all(abs(level - other) > 15 for other in taken):
            taken.append(level)
            kind = "zero" if value == 0 else "grid"
            body.append(f'<line class="{kind}" x1="{_LEFT}" x2="{right}" y1="{level:.1f}" y2="{level:.1f}"/>')
            body.append(f'<text class="tick end" x="{_LEFT - 7}" y="{level + 4:.1f}">{value:g}</text>')
    body.append(f'<line class="limit" x1="{_LEFT}" x2="{right}" y1="{y(limit):.1f}" y2="{y(limit):.1f}"/>')
    for value in ticks(near, far, 4 if width < 480 else 8):
        body.append(f'<text class="tick middle" x="{x(value):.1f}" y="{bottom + 18}">{value:g}</text>')
    body.append(f'<text class="tick end" x="{right}" y="{height - 5}">{escape(unit)}</text>')
    body.append(f'<text class="tick" x="0" y="{height - 5}">up: AP lost</text>')
    written = [(x(p.cost) - 5, x(p.cost) + 5, y(p.drop)) for p in points]
    for p in sorted(points, key=lambda p: p.kind == "tried"):  # whose label finds no room goes without
        at, level = x(p.cost), y(p.drop)
        told = f"{p.label}: AP lost {p.drop:+.4f}, {p.cost:.3g} {unit}"
        body.append(f'<g class="{p.kind}"><title>{escape(told)}</title>')
        if p.interval is not None:
            a, b = (y(v) for v in p.interval)
            body.append(f'<line class="whisker" x1="{at:.1f}" x2="{at:.1f}" y1="{a:.1f}" y2="{b:.1f}"/>')
        body.append(f'<circle cx="{at:.1f}" cy="{level:.1f}" r="{6 if p.kind == "best" else 4.5}"/>')
        beyond, long = at > (_LEFT + right) / 2, 10 + _LETTER * len(p.label)
        here = (at - long, at - 6, level) if beyond else (at + 6, at + long, level)
        if all(here[1] < left or far_end < here[0] or abs(level - row) > 13 for left, far_end, row in written):
            written.append(here)
            body.append(
                f'<text class="label{" end" if beyond else ""}" x="{at + (-10 if beyond else 10):.1f}" '
                f'y="{level + 4:.1f}">{escape(p.label)}</text>'
            )
        body.append("</g>")
    return svg(width, height, body, "AP lost against cost of each network that was measured")


def ranges(values: Mapping[str, Sequence[float]], width: int) -> str:
    """The range of each activation, in the order of the network: upwards its maximum, downwards its minimum.

    Args:
        values: (lo, hi) by tensor; lo <= 0 <= hi.
        width: px of the plot.
    """
    height, right = 260, width - 8
    bottom = height - _BOTTOM + 12
    sizes = np.abs(np.array(list(values.values()), np.float64)).reshape(-1)
    sizes = sizes[sizes > 0] if (sizes > 0).any() else np.ones(1)
    low, high = np.floor(np.log10(sizes.min()) - 0.3), np.ceil(np.log10(sizes.max()))
    signed = any(lo < 0 for lo, _ in values.values())
    zero = (_TOP + bottom) / 2 if signed else float(bottom)
    reach = zero - _TOP

    def length(value: float) -> float:
        return max(0.0, (np.log10(abs(value)) - low) / (high - low)) * reach if value else 0.0

    body = []
    for decade in range(int(low) + 1, int(high) + 1):
        for sign in (1, -1) if signed else (1,):
            level = zero - sign * length(10.0**decade)
            text = f"{sign * 10.0**decade:g}".replace("-", "−")
            body.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{level:.1f}" y2="{level:.1f}"/>')
            body.append(f'<text class="tick end" x="{_LEFT - 7}" y="{level + 4:.1f}">{text}</text>')
    step = (right - _LEFT) / max(len(values), 1)
    bar = max(0.6, min(step * 0.7, 12.0))
    for i, (name, (lo, hi)) in enumerate(values.items()):
        up, down = length(hi), length(lo)
        body.append(
            f'<rect class="{"signed" if down else "unsigned"}" x="{_LEFT + (i + 0.5) * step - bar / 2:.1f}" '
            f'y="{zero - up:.1f}" width="{bar:.1f}" height="{up + down:.1f}">'
            f"<title>{escape(name)}: {lo:.4g} to {hi:.4g}</title></rect>"
        )
    body.append(f'<line class="zero" x1="{_LEFT}" x2="{right}" y1="{zero:.1f}" y2="{zero:.1f}"/>')
    body.append(f'<text class="tick" x="{_LEFT}" y="{height - 5}">from the first layer</text>')
    body.append(f'<text class="tick end" x="{right}" y="{height - 5}">to the last</text>')
    return svg(width, height, body, "range of each quantised activation")
