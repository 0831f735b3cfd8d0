"""The report's page: one HTML file with its style, plots and pictures in it, and no script."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from ...runtime.accuracy.drift import FEWEST
from ...runtime.accuracy.verdict import Parity, Row, Worst
from ...runtime.bundle.contract import Contract
from ...runtime.pose.draw import SIDES, layout
from . import plots, words
from .int8_words import settled_text
from .plots import Graph, Point, Series
from .suspects import Pair

_DASHES = ((), (3.5, 2), (1, 2), (4.5, 2, 1, 2))
_JOINTS = 30  # rows of the joint table; a skeleton with fingers and a face shows its worst
_BLOCKS = 12
_SOURCE = ("method", "data", "people", "images", "sha256", "scales")  # of the ranges
_PICTURE = 480  # px of the longer side; larger crops are scaled down to keep the page small


def page(parity: Parity, contract: Contract, meta: Mapping[str, Any], suspects: Sequence[Pair] = ()) -> str:
    """The whole page as text; see `report.write_report`."""
    environment = Environment(
        loader=PackageLoader(__package__, ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    series = _series(parity)
    environment.filters |= {
        "number": words.number,
        "signed": words.signed,
        "interval": words.interval_text,
        "bounds": words.bounds_text,
        "drift_bounds": words.drift_bounds_text,
        "share": words.share,
    }
    return environment.get_template("page.html").render(
        parity=parity,
        contract=contract,
        metric=parity.metric,
        reference=words.reference_name(parity),
        drift_note=words.drift_note(parity),
        jitter_note=words.jitter_note(parity),
        subjects=words.subjects(parity),
        subject=words.subject(parity),
        model=str(meta.get("model") or meta.get("bundle") or "model"),
        bundle=meta.get("bundle", ""),
        headline=words.headline(parity),
        tiles=_tiles(parity),
        plots=_plots(parity, series),
        series=series,
        heights=_heights(parity),
        dark_note=words.dark_note(parity),
        jump_note=words.JUMP_NOTE,
        joints=_joints(parity, contract),
        int8=_int8(meta.get("calibration")),
        suspects={**(meta.get("suspects") or {"kept": False, "pairs": {}}), "shown": suspects},
        people=[_person(worst, contract) for worst in parity.worst],
        facts=_facts(parity, meta),
        limits=words.limits(parity, meta),
    )


def _series(parity: Parity) -> dict[str, Series]:
    """Colour shows the precision, dashes show the backend."""
    backends = list(dict.fromkeys(row.backend for row in parity.rows[1:]))
    found = {}
    for i, row in enumerate(parity.rows):
        known = row.precision if row.precision in ("fp32", "fp16", "int8") else "other"
        dash = _DASHES[backends.index(row.backend) % len(_DASHES)] if i else ()
        found[row.key] = Series(row.key, known if i else "reference", dash)
    return found


def _tiles(parity: Parity) -> list[tuple[str, str]]:
    """The most important figures, each with what it is."""
    reference, rows = parity.rows[0], [row for row in parity.rows[1:] if not row.reason]
    if not rows:
        return []
    fastest = min(rows, key=lambda r: r.ms_per_person)
    far = max(rows, key=lambda r: r.pixel_drift_p95)
    if reference.accuracy is not None:
        worst = max(rows, key=lambda r: r.accuracy_drop or 0.0)
        first = [
            (
                f"{reference.accuracy:.3f}",
                f"{parity.metric} of {words.reference_name(parity)}, {words.subjects(parity)}",
            ),
            (words.signed(worst.accuracy_drop), f"largest {parity.metric} loss: {worst.key}"),
        ]
    else:
        worst = max(rows, key=lambda r: r.heatmap_error)
        error = words.number(worst.heatmap_error, "{:.1e}")
        first = [("–", f"{parity.metric}: not measured"), (error, f"largest error of the outputs: {worst.key}")]
    one, speedup = words.subject(parity), reference.ms_per_person / fastest.ms_per_person
    return [
        *first,
        (f"{words.number(far.pixel_drift_p95)} px", f"largest p95 of joint drift: {far.key}"),
        (f"{fastest.ms_per_person:.1f} ms", f"per {one}: {fastest.key}, {speedup:.1f}x the reference"),
    ]


def _plots(parity: Parity, series: Mapping[str, Series]) -> dict[str, Markup]:
    """Plots by name; those without data are missing."""
    found = {}
    graphs = [_graph(row, series[row.key]) for row in parity.rows if not row.reason]
    found["choice"] = plots.choice(graphs, parity.metric, parity.max_drop, parity.max_drift, words.subject(parity))
    if parity.drift:
        samples = [d[np.isfinite(d)].astype(np.float64) for d in parity.drift.values()]
        found["drift"] = plots.cumulative([series[key] for key in parity.drift], samples)
    return {name: Markup(svg) for name, svg in found.items()}


def _graph(row: Row, series: Series) -> Graph:
    """A row as the plot of the choice shows it; the reference has a time alone."""
    if row.verdict == "reference":
        return Graph(series, None, None, None, None, None, row.ms_per_person)
    ends = row.loss_bounds if words.finite(row.loss_bounds) else None
    bounds = row.pixel_drift_p95_bounds if words.finite(row.pixel_drift_p95_bounds) else None
    return Graph(series, row.loss, ends, row.pixel_drift_p95, bounds, row.dark_drift_p95, row.ms_per_person)


def _heights(parity: Parity) -> dict[str, Any]:
    """The table of drift by height: per class its name and number of people, and per graph its figures."""
    return {
        "classes": words.height_classes(parity),
        "rows": [
            (row, [(words.number(one.p95), words.number(one.dark_p95)) for one in row.drift_by_height])
            for row in parity.rows
            if row.drift_by_height
        ],
        "fewest": FEWEST,
        "dark": bool(parity.data.get("dark")),
    }


def _joints(parity: Parity, contract: Contract) -> dict[str, Any]:
    """The table of drift per joint: names, and per cell the figure and its tint, 0 to 1."""
    table = np.array([words.joint_drift(d) for d in parity.drift.values()]).T
    order = list(range(len(table)))
    if len(order) > _JOINTS:
        order = sorted(order, key=lambda k: -np.nan_to_num(table[k]).max())[:_JOINTS]
    rows = [(contract.keypoints[k].replace("_", " "), [(words.number(v), _tint(v)) for v in table[k]]) for k in order]
    return {"rows": rows, "of": len(table)}


def _tint(drift: float) -> float:
    """From 0 at 0.03 px (rounding) to 1 at 10 px (another place); 0 for NaN."""
    return float(np.clip(np.log10(np.fmax(drift, 1e-9) / 0.03) / np.log10(10 / 0.03), 0, 1))


def _int8(record: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What int8 costs, from a bundle's record of its calibration."""
    if not record or "verdict" not in record:
        return None
    search = record["search"]
    blocks = sorted(search.get("blocks", ()), key=lambda b: (not b["float"], -b["loss"]))
    return {
        "verdict": record["verdict"],
        "people": record["people"],
        "settled": settled_text(record["curve"], record["settled"], record["different"]),
        "tradeoff": Markup(_tradeoff(search)),
        "ranges": Markup(plots.ranges(record["ranges"])),
        "blocks": blocks[:_BLOCKS],
        "more": max(0, len(blocks) - _BLOCKS),
        "worst": max((b["loss"] for b in blocks), default=0.0) or 1.0,
    }


def _tradeoff(search: Mapping[str, Any]) -> str:
    """What is lost against cost of every measured network; empty where none was measured."""
    steps = [s for s in search.get("steps", ()) if s["drop"] is not None]
    if not steps:
        return ""
    timed = all(s["ms"] is not None for s in steps)
    unit = f"ms per crop, {search['backends']['int8']}" if timed else "share of multiply-adds in float"
    best = search["steps"][search["best"]]
    points = [Point("fp32", search["fp32_ms"] if timed else 1.0, 0.0, None, "float")]
    for s in steps:
        label = f"{len(s['blocks'])} in float" if s["blocks"] else "all int8"
        cost, kind = s["ms"] if timed else s["float_macs"], "best" if s is best else "tried"
        points.append(Point(label, cost, s["drop"], s["interval"], kind))
    return plots.tradeoff(points, search["max_drop"], unit, search["metric"])


def _person(worst: Worst, contract: Contract) -> dict[str, Any]:
    """One person as every panel shows them; coordinates in px of the crop."""
    height, width = worst.image.shape[:2]
    picture: NDArray[Any] = worst.image
    if max(height, width) > _PICTURE:
        factor = _PICTURE / max(height, width)
        picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
    shown = worst.truth[:, 2] > 0 if worst.truth is not None else np.ones(len(worst.reference_xy), bool)
    shape = layout(contract)
    panels = [("reference", worst.reference_xy, None), (worst.key, worst.candidate_xy, worst.reference_xy)]
    if worst.truth is not None:
        panels.append(("labels", worst.truth[:, :2], None))
    moved = np.where(shown, np.linalg.norm(worst.candidate_xy - worst.reference_xy, axis=1), -1)
    return {
        "key": worst.key,
        "drift": worst.drift,
        "joint": contract.keypoints[int(moved.argmax())].replace("_", " "),
        "moved": float(moved.max()),
        "size": (width, height),
        "jpeg": base64.b64encode(jpeg).decode(),
        "joints": [(int(k), SIDES[shape.joint_sides[k]]) for k in np.flatnonzero(shown)],
        "limbs": [
            (a, b, SIDES[side])
            for (a, b), side in zip(contract.skeleton, shape.limb_sides, strict=True)
            if shown[a] and shown[b]
        ],
        "panels": [(title, xy.tolist(), None if before is None else before.tolist()) for title, xy, before in panels],
    }


def _facts(parity: Parity, meta: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How the bundle was made, as names and values."""
    data = parity.data
    kinds = {"demo": "synthetic people, made by the demo's generator", "user": "the user's images"}
    people = f"{data['images']} images, {words.subjects(parity)}: {kinds.get(data['kind'], data['kind'])}"
    facts = {
        **{key: meta.get(key) for key in ("command", "model", "weights")},
        "evaluated_on": people,
        "int8_ranges": {k: v for k, v in (meta.get("calibration") or {}).items() if k in _SOURCE},
        **{key: meta.get(key) for key in ("published", "machine", "versions")},
    }
    facts |= {key: value for key, value in meta.items() if key not in {*facts, "calibration", "bundle", "suspects"}}
    names = {key: key.replace("_", " ").capitalize() for key in facts}
    return [(names[key], _plain(value)) for key, value in facts.items() if value not in (None, {})]


def _plain(value: Any) -> str:
    """A JSON value in a line, without long lists."""
    if isinstance(value, Mapping):
        return " · ".join(f"{k} {_plain(v)}" for k, v in value.items() if v not in (None, "", {}, []) and not _long(v))
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _long(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple) and len(value) > 20
