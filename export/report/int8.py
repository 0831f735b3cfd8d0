"""The page's part about int8: the verdict, what accuracy cost, which blocks are hard, and the ranges."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from . import plots_int8, words
from .markup import both, section
from .plots_int8 import Point

_BLOCKS = 12


def int8_section(record: Mapping[str, Any] | None) -> str:
    """The sections from a bundle's record of its calibration; empty without int8."""
    if not record or "verdict" not in record:
        return ""
    parts = [_tradeoff(record["search"]), _blocks(record["search"])]
    body = "".join(p for p in parts if p)
    settled = words.settled_text(record["curve"], record["settled"])
    return section("What int8 costs", record["verdict"], body) + section(
        "Ranges of the activations",
        f"What {record['people']} calibration people showed of each quantised tensor, on a logarithmic scale; upwards "
        f"the maximum, downwards the minimum; orange: never negative. {settled}",
        both(lambda width: plots_int8.ranges(record["ranges"], width)),
    )


def _tradeoff(found: Mapping[str, Any]) -> str:
    if "steps" not in found:
        return ""
    steps = [s for s in found["steps"] if s["drop"] is not None]
    if not steps:
        return ""
    timed = all(s["ms"] is not None for s in steps)
    unit = f"ms per person, {found['backends']['int8']}" if timed else "share of multiply-adds in float"
    best = found["steps"][found["best"]]
    points = [
        Point(
            "all int8" if not s["blocks"] else f"{len(s['blocks'])} in float" if s is best else f"{len(s['blocks'])}",
            s["ms"] if timed else s["float_macs"],
            s["drop"],
            s["interval"],
            "best" if s is best else "tried",
        )
        for s in steps
    ]
    points.append(Point("fp32", found["fp32_ms"] if timed else 1.0, 0.0, None, "float"))
    text = (
        "Each dot is a measured network with its number of blocks in float; lines: 95 % intervals; dashed: the loss "
        "that is allowed, up to which the axis is even, and logarithmic beyond."
    )
    return f"{both(lambda width: plots_int8.tradeoff(points, found['max_drop'], unit, width))}<p>{text}</p>"


def _blocks(found: Mapping[str, Any]) -> str:
    blocks = sorted(found.get("blocks", ()), key=lambda b: (not b["float"], -b["loss"]))
    if not blocks:
        return ""
    worst = max(b["loss"] for b in blocks) or 1.0
    rows = "".join(
        f"<tr><th>{escape(b['name'])}</th><td>{b['macs']:.2%}</td>"
        f'<td style="--v:{b["loss"] / worst:.2f}">{b["loss"]:.5f}</td><td>{"float" if b["float"] else "int8"}</td></tr>'
        for b in blocks[:_BLOCKS]
    )
    rest = f" {len(blocks) - _BLOCKS} more lose less." if len(blocks) > _BLOCKS else ""
    return (
        f"<p>What each block costs when it alone is in int8, in OKS (1 is all); no labels are needed for it.{rest}</p>"
        '<div class="scroll"><table class="heat"><thead><tr><th>Block</th><th>Multiply-adds</th><th>OKS lost</th>'
        f"<th>Left in</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
