"""The plots of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator, PercentFormatter
from numpy.typing import NDArray

from .figure import COLOR, Plot, styled

# px of the frame: differences below it come from float32 rounding of the coordinates themselves.
DRIFT_FLOOR = 1e-3
_DRIFT_TICKS = (0, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)


class Series(NamedTuple):
    """How one graph looks in every plot."""

    label: str
    color: str  # "fp32", "fp16", "int8", "other" or "reference"
    dash: tuple[float, ...] = ()  # lengths of dashes and gaps; empty for a solid line


class Graph(NamedTuple):
    """What choosing one graph means; None where something was not measured."""

    series: Series
    loss: float | None
    loss_bounds: tuple[float, float] | None
    drift: float | None  # p95 under the contract's own rule, px of the frame
    drift_bounds: tuple[float, float] | None
    dark: float | None  # p95 under DARK
    ms: float


class Point(NamedTuple):
    """One network of the trade-off."""

    label: str
    cost: float  # time per crop or share of operations in float
    drop: float  # of the metric
    interval: tuple[float, float] | None
    kind: str  # "best", "tried" or "float"


@styled
def choice(graphs: Sequence[Graph], metric: str, max_drop: float, max_drift: float | None, subject: str) -> str:
    """Loss, drift and time of every graph beside each other, a row per graph; without losses the other two."""
    lossy = any(g.loss is not None for g in graphs)
    plot = Plot("choice", "loss, drift and time of each graph", 74 + 26 * len(graphs), beside=2 + lossy)
    _rows(plot, [g.series for g in graphs])
    *first, drift, time = plot.panels
    if lossy:
        _losses(plot, first[0], graphs, max_drop)
        first[0].set_title(f"{metric} lost", loc="left")
    _drifts(plot, drift, graphs, max_drift)
    drift.set_title("p95 of the drift, px of the frame", loc="left")
    colors = [COLOR[g.series.color] for g in graphs]
    drawn = time.barh(range(len(graphs)), [g.ms for g in graphs], height=0.5, color=colors)
    speedups = ["", *(f" · {graphs[0].ms / g.ms:.1f}x" for g in graphs[1:])]
    time.bar_label(drawn, [f"{g.ms:.1f}{more}" for g, more in zip(graphs, speedups, strict=True)], padding=5)
    time.set_xlim(0, 1.5 * max([*(g.ms for g in graphs), 1e-9]))  # room for the note behind the longest bar
    time.set_title(f"ms per {subject}", loc="left")
    return plot.svg()


def _losses(plot: Plot, axes: Axes, graphs: Sequence[Graph], limit: float) -> None:
    """The loss with its bounds against what is allowed."""
    seen = [v for g in graphs for v in (g.loss, *(g.loss_bounds or ())) if v is not None]
    low, high = min(*seen, -0.25 * limit), max(*seen, 1.25 * limit)
    margin = 0.05 * (high - low)
    axes.set_xlim(low - margin, high + margin)
    axes.axvline(0, color=COLOR["soft"], linewidth=1.2)
    _limit(axes, limit)
    for row, g in enumerate(graphs):
        if g.loss is None:
            continue
        text, color = f"{g.series.label}: {g.loss:+.4f}", COLOR[g.series.color]
        if g.loss_bounds is not None:
            text += " [{:+.4f}, {:+.4f}]".format(*g.loss_bounds)
            plot.tip(axes.plot(g.loss_bounds, [row, row], color=color, marker="|", markersize=7, linewidth=2)[0], text)
        plot.tip(axes.plot([g.loss], [row], "o", color=color, markersize=8)[0], text)


def _drifts(plot: Plot, axes: Axes, graphs: Sequence[Graph], limit: float | None) -> None:
    """Drift under the own rule (filled, with bounds) and DARK (hollow), linear up to 0.1 px and logarithmic beyond."""
    axes.set_xscale("symlog", linthresh=_DRIFT_TICKS[1], linscale=0.6)
    seen = [v for g in graphs for v in (g.drift, *(g.drift_bounds or ()), g.dark, limit) if v is not None]
    high = 1.3 * max([*seen, 1.0])
    axes.set_xlim(-0.02, high)
    ticks = [t for t in _DRIFT_TICKS if t <= high]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    if limit is not None:
        _limit(axes, limit)
    for row, g in enumerate(graphs):
        color = COLOR[g.series.color]
        if g.drift is None:
            continue
        if g.drift_bounds is not None:
            axes.plot(g.drift_bounds, [row, row], color=color, marker="|", markersize=7, linewidth=2)
        text = f"{g.series.label}: {g.drift:.3g} px"
        if g.dark is not None:
            (hollow,) = axes.plot([g.dark], [row], "o", color=color, markerfacecolor=COLOR["card"], markersize=8)
            plot.tip(hollow, f"{g.series.label} by DARK: {g.dark:.3g} px")
            text += f", by DARK {g.dark:.3g} px"
        plot.tip(axes.plot([g.drift], [row], "o", color=color, markersize=8)[0], text)


def _limit(axes: Axes, limit: float) -> None:
    """What is allowed, and the field beyond it; the limits of x are set."""
    right = axes.get_xlim()[1]
    if limit < right:
        axes.axvspan(limit, right, color=COLOR["bad"], alpha=0.08, linewidth=0)
    axes.axvline(limit, color=COLOR["bad"], linewidth=1.6, linestyle=(0, (3, 2.5)))


@styled
def cumulative(series: Sequence[Series], samples: Sequence[NDArray[np.floating]]) -> str:
    """Share of joints that moved at most so far: a curve per sample of finite distances, px of the frame."""
    plot = Plot("drift", "share of joints against the distance they moved", 260 + 9 * len(series))
    axes = plot.axes
    filled = [s for s in samples if s.size]
    largest = max([float(s.max()) for s in filled] or [1.0])
    low, high = round(np.log10(DRIFT_FLOOR)), max(1, int(np.ceil(np.log10(max(largest, 1e-9)))))
    # A decoder that steps by quarters of a cell leaves most joints exactly where they were: then the axis of shares
    # begins just below where the lowest curve does.
    still = min([float((s <= DRIFT_FLOOR).mean()) for s in filled] or [0.0])
    base = 0.0 if still < 0.5 else float(np.floor(20 * still - 0.5) / 20)
    steps = np.linspace(0, 1, 401)
    for s, sample in zip(series, samples, strict=True):
        if sample.size:
            x = np.maximum(np.quantile(sample, steps), DRIFT_FLOOR)
            style: Any = (0, s.dash) if s.dash else "solid"
            (line,) = axes.plot(
                x, np.maximum(steps, base), color=COLOR[s.color], linestyle=style, linewidth=2, label=s.label
            )
            median, p95 = np.quantile(sample, [0.5, 0.95])
            plot.tip(line, f"{s.label}: median {median:.3g} px, 95 % within {p95:.3g} px")
    axes.axhline(0.95, color=COLOR["soft"], linewidth=1, linestyle=(0, (1, 3)))
    axes.set_xscale("log")
    axes.set_xlim(10.0**low, 10.0**high)
    decades = [10.0**k for k in range(low, high + 1)]
    axes.set_xticks(decades, [f"{'≤' if k == 0 else ''}{d:g}" for k, d in enumerate(decades)])
    axes.set_yticks(np.arange(1, base - 1e-9, -0.25 if base == 0 else -0.05 if base >= 0.7 else -0.1))
    axes.set_ylim(base, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("px of the frame", loc="right")
    plot.figure.legend(loc="outside lower left", ncols=2, handlelength=2.4)
    return plot.svg()


@styled
def tradeoff(points: Sequence[Point], limit: float, unit: str, metric: str) -> str:
    """What is lost of the metric against cost, which is in `unit`: one dot per network, with the allowed drop."""
    plot = Plot("tradeoff", f"{metric} lost against cost of each network that was measured", 280)
    axes = plot.axes
    # Linear within the allowed drop, logarithmic beyond: networks that failed by far do not flatten the others.
    axes.set_yscale("asinh", linear_width=max(limit, 1e-4) / 2)
    ends = [v for p in points for v in (p.interval or ())] + [p.drop for p in points] + [-limit, 1.5 * limit]
    bottom, top = 1.2 * min(ends), 1.2 * max(ends)
    axes.set_ylim(bottom, top)
    axes.axhspan(limit, top, color=COLOR["bad"], alpha=0.08, linewidth=0)
    axes.axhline(0, color=COLOR["soft"], linewidth=1.2)
    axes.axhline(limit, color=COLOR["bad"], linewidth=1.6, linestyle=(0, (3, 2.5)))
    decades = [sign * 10.0**k for k in range(-3, 1) for sign in (1, -1)]
    ticks = [0.0, limit, -limit, *(d for d in decades if bottom <= d <= top and abs(d) >= 2 * limit)]
    axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axes.yaxis.set_minor_locator(MaxNLocator(1))
    costs = [p.cost for p in points]
    margin = 0.18 * (max(costs) - min(costs)) or 0.1 * max(costs) or 1.0
    axes.set_xlim(max(0.0, min(costs) - margin), max(costs) + margin)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.grid(axis="x", visible=False)
    style = {"best": ("int8", "int8"), "tried": ("soft", "card"), "float": ("fp32", "fp32")}
    position = axes.transScale + axes.transLimits  # from values to fractions of the axes
    labelled: list[NDArray[np.float64]] = []
    for p in sorted(points, key=lambda p: p.kind == "tried"):  # a label without room is left out
        edge, face = (COLOR[name] for name in style[p.kind])
        if p.interval is not None:
            axes.plot([p.cost, p.cost], p.interval, color=edge, linewidth=2)
        (dot,) = axes.plot([p.cost], [p.drop], "o", color=edge, markerfacecolor=face, markersize=8)
        plot.tip(dot, f"{p.label}: {metric} lost {p.drop:+.4f}, {p.cost:.3g} {unit}")
        here = np.asarray(position.transform((p.cost, p.drop)))
        if all(abs(here[1] - other[1]) > 0.07 or abs(here[0] - other[0]) > 0.25 for other in labelled):
            labelled.append(here)
            side: dict[str, Any] = {"xytext": (8, 0), "ha": "left"}
            if here[0] > 0.5:
                side = {"xytext": (-8, 0), "ha": "right"}
            axes.annotate(p.label, (p.cost, p.drop), textcoords="offset points", va="center", zorder=5, **side)
    axes.set_ylabel(f"{metric} lost")
    axes.set_xlabel(unit, loc="right")
    return plot.svg()


@styled
def ranges(values: Mapping[str, Sequence[float]]) -> str:
    """The range (lo, hi) of each activation, lo <= 0 <= hi, in the order of the network, on a logarithmic axis."""
    plot = Plot("ranges", "range of each quantised activation", 260)
    sizes = np.abs(np.array(list(values.values()), np.float64)).reshape(-1)
    sizes = sizes[sizes > 0] if (sizes > 0).any() else np.ones(1)
    threshold = 10.0 ** np.floor(np.log10(sizes.min()) - 0.3)
    plot.axes.set_yscale("symlog", linthresh=threshold, linscale=1)
    for k, (name, (lo, hi)) in enumerate(values.items()):
        (bar,) = plot.axes.bar([k], [hi - lo], bottom=lo, width=0.7, color=COLOR["fp32" if lo < 0 else "int8"])
        plot.tip(bar, f"{name}: {lo:.4g} to {hi:.4g}")
    top = 10.0 ** np.ceil(np.log10(sizes.max()))
    plot.axes.set_ylim(-top if any(lo < 0 for lo, _ in values.values()) else 0, top)
    plot.axes.yaxis.set_major_formatter("{x:g}")
    plot.axes.axhline(0, color=COLOR["soft"], linewidth=1.2)
    plot.axes.set_xlim(-1, len(values))
    plot.axes.set_xticks([])
    plot.axes.set_xlabel("tensors, first layer to last")
    return plot.svg()


def _rows(plot: Plot, series: Sequence[Series]) -> None:
    """One labelled row per series, from top to bottom, through all panels."""
    plot.axes.set_yticks(range(len(series)), [s.label for s in series], color=COLOR["ink"])
    plot.axes.set_ylim(len(series) - 0.4, -0.6)
    for axes in plot.panels:
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(4))
