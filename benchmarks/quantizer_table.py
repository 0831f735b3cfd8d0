"""The table of `quantizers`, and which order of the tools is beyond chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posert.benchmarks.script import markdown

Rows = Mapping[str, Mapping[str, Any]]

OURS, OURS_GPU, FLOAT = "ours", "ours, for GPUs", "float32"
YARDSTICK = "ONNX Runtime, min-max, int8 symmetric"
"""The graph that drift is given as a ratio to: what the most used tool makes for GPUs."""

_HEAD = (
    "graph | {} lost (95 % interval) | own rule: drift median / p95, px | DARK: drift median / p95, px | "
    "DARK p95 / yardstick's (95 % interval) | s | peak MB | ms per person | x fastest"
)
_RESAMPLES = 1000


def p95_ratio(image: NDArray[np.intp], ours: NDArray[Any], theirs: NDArray[Any]) -> tuple[float, float, float]:
    """The 95th percentile of distances `(N, K)` over that of others, and its 95 % interval over images, paired.

    Args:
        image: `(N,)` index of each person's image.
        ours, theirs: NaN where a joint has no label.
    """
    kept = np.isfinite(ours) & np.isfinite(theirs)
    members = [np.flatnonzero(image == one) for one in np.unique(image)]
    pairs = [(ours[m][kept[m]], theirs[m][kept[m]]) for m in members]

    def ratio(drawn: Sequence[int] | NDArray[np.intp]) -> float:
        a, b = (np.quantile(np.concatenate([pairs[i][k] for i in drawn]), 0.95) for k in (0, 1))
        return float(a / b) if b > 0 else float("nan")

    rng = np.random.default_rng(0)
    found = [ratio(rng.integers(0, len(pairs), len(pairs))) for _ in range(_RESAMPLES)]
    low, high = np.nanquantile(found, [0.025, 0.975])
    return ratio(range(len(pairs))), float(low), float(high)


def table(rows: Rows, metric: str) -> str:
    """A row for each graph as Markdown, then what is certain about ours."""
    cells = []
    for name, r in rows.items():
        if "failed" in r:
            cells.append([name, r["failed"].splitlines()[0], *[""] * 7])
            continue
        low, high = r["accuracy_drop_interval"]
        drift = r.get("to_yardstick")
        cells.append(
            [
                f"**{name}**" if name.startswith(OURS) else name,
                f"{r['accuracy_drop']:+.4f} ({low:+.4f} to {high:+.4f})",
                f"{r['pixel_drift_median']:.3f} / {r['pixel_drift_p95']:.3f}",
                f"{r['dark_drift_median']:.3f} / {r['dark_drift_p95']:.3f}",
                "" if drift is None else "{:.2f} ({:.2f} to {:.2f})".format(*drift),
                *([f"{r['seconds']:.0f}", f"{r['peak_mb']:.0f}"] if "seconds" in r else ["", ""]),
                *([f"{r['ms_per_person']:.2f}", f"{r['ratio']['point']:.3f}"] if "ratio" in r else ["", ""]),
            ]
        )
    return "\n".join([markdown(_HEAD.format(metric), cells), "", *certain(rows, metric)])


def certain(rows: Rows, metric: str) -> list[str]:
    """What the intervals decide, a line for each of our graphs and figures."""
    done = {name: r for name, r in rows.items() if "failed" not in r and name != FLOAT}
    if OURS not in done:
        return ["Ours failed: see its row."]
    lines = []
    for ours in (OURS, OURS_GPU):
        against = {name: r["to_ours"][ours] for name, r in done.items() if ours in r.get("to_ours", {})}
        if against:
            less = [name for name, (_, low, _) in against.items() if low > 1]
            more = [name for name, (_, _, high) in against.items() if high < 1]
            open_ = [name for name in against if name not in (*less, *more)]
            lines.append(
                f"- p95 drift under DARK, {ours}: less than that of {_listed(less)}; more than that of "
                f"{_listed(more)}; undecided against {_listed(open_)}"
            )
    losing = [name for name, r in done.items() if r["accuracy_drop_interval"][0] > 0]
    lines.append(f"- {metric}: a loss is certain for {_listed(losing)}")
    timed = {name: r["ratio"] for name, r in done.items() if "ratio" in r}
    if OURS in timed:
        slower = [n for n, r in timed.items() if n != OURS and r["low"] > timed[OURS]["high"]]
        faster = [n for n, r in timed.items() if n != OURS and r["high"] < timed[OURS]["low"]]
        lines.append(f"- time: ours is certainly faster than {_listed(slower)}; slower than {_listed(faster)}")
    return lines


def _listed(names: Sequence[str]) -> str:
    return "; ".join(names) if names else "none"
