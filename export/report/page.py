"""The report's page: one HTML file with its style, plots and pictures in it, and no script."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ...runtime.accuracy.verdict import Parity, Row, Worst
from ...runtime.bundle.contract import Contract
from ...runtime.pose.draw import SIDES, layout
from . import plots, words
from .int8 import int8_section
from .markup import both, section
from .plots import Series

_MARKS = {"passed": "Passed", "failed": "Failed", "unproven": "Unproven"}
_DASHES = ("", "7 4", "2 4", "9 4 2 4")
_JOINTS = 30  # rows of the joint table; a skeleton with fingers and a face shows its worst
_ORIGIN = ("method", "data", "people", "images", "sha256", "scales")  # of ranges, told beside the rest of the making
_PICTURE = 480  # px of the longer side; larger crops are scaled down to keep the page small


def page(parity: Parity, contract: Contract, meta: Mapping[str, Any]) -> str:
    """The whole page as text; see `report.write_report`."""
    series = _series(parity)
    note = f'<p class="note">{escape(str(parity.data["note"]))}</p>' if parity.data.get("note") else ""
    sections = [
        _tiles(parity),
        _table(parity, series),
        _drops(parity, series),
        _drift(parity, series),
        _joints(parity, contract),
        _times(parity, series),
        int8_section(meta.get("calibration")),
        _people(parity, contract),
        _making(parity, meta),
    ]
    template = Template(files(__package__).joinpath("page.html").read_text(encoding="utf-8"))
    model = str(meta.get("model") or meta.get("bundle") or "model")
    return template.substitute(
        title=escape(f"{_MARKS[parity.verdict]}: {model}"),
        verdict=parity.verdict,
        mark=_MARKS[parity.verdict],
        model=escape(model),
        over=escape(f"posert accuracy gate · {meta.get('bundle', '')}"),
        headline=escape(words.headline(parity)),
        note=note,
        body="\n".join(s for s in sections if s),
    )


def _series(parity: Parity) -> dict[str, Series]:
    """Colour tells the precision, the dashes tell the backend."""
    backends = list(dict.fromkeys(row.backend for row in parity.rows[1:]))
    found = {}
    for i, row in enumerate(parity.rows):
        known = row.precision if row.precision in ("fp32", "fp16", "int8") else "other"
        color = f"var(--{known if i else 'reference'})"
        dash = _DASHES[backends.index(row.backend) % len(_DASHES)] if i else ""
        found[row.key] = Series(row.key, color, dash)
    return found


def _tiles(parity: Parity) -> str:
    reference, rows = parity.rows[0], [row for row in parity.rows[1:] if not row.reason]
    if not rows:
        return ""
    fastest = min(rows, key=lambda r: r.ms_per_person)
    far = max(rows, key=lambda r: r.pixel_drift_p95)
    if reference.ap is not None:
        worst = max(rows, key=lambda r: r.ap_drop or 0.0)
        first = [
            (f"{reference.ap:.3f}", f"AP of the PyTorch model, {parity.data['people']} people"),
            (words.signed(worst.ap_drop), f"largest AP loss: {worst.key}"),
        ]
    else:
        worst = max(rows, key=lambda r: r.heatmap_error)
        first = [
            ("–", "AP: not measured"),
            (words.number(worst.heatmap_error, "{:.1e}"), f"largest heatmap error: {worst.key}"),
        ]
    tiles = [
        *first,
        (f"{words.number(far.pixel_drift_p95)} px", f"largest p95 of joint drift: {far.key}"),
        (
            f"{fastest.ms_per_person:.1f} ms",
            f"per person: {fastest.key}, {reference.ms_per_person / fastest.ms_per_person:.1f}x PyTorch",
        ),
    ]
    cells = "".join(f'<div class="tile"><b>{escape(a)}</b><span>{escape(b)}</span></div>' for a, b in tiles)
    return f'<div class="tiles">{cells}</div>'


def _table(parity: Parity, series: Mapping[str, Series]) -> str:
    heads = [
        "Graph",
        "Verdict",
        "AP",
        "AP lost",
        "95 % interval",
        "Drift median<br>px",
        "Drift p95<br>px",
        "Heatmap<br>error",
    ]
    heads += ["ms per<br>person", "MB"]
    body = "".join(_table_row(row, series[row.key]) for row in parity.rows)
    return section(
        "Every graph against the PyTorch model",
        "Same frames, same boxes, through the code that the user runs. Drift is the distance of a joint from where the "
        "PyTorch model puts it, in px of the frame; the heatmap error is a relative L2 norm.",
        f'<div class="scroll"><table><thead><tr>{"".join(f"<th>{h}</th>" for h in heads)}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>",
    )


def _table_row(row: Row, series: Series) -> str:
    first = row.verdict == "reference"
    cells = [
        words.number(row.ap, "{:.4f}"),
        "" if first else words.signed(row.ap_drop),
        "" if first else words.interval_text(row),
        "" if first else words.number(row.pixel_drift_median),
        "" if first else words.number(row.pixel_drift_p95),
        "" if first else words.number(row.heatmap_error, "{:.1e}"),
        words.number(row.ms_per_person, "{:.1f}"),
        f"{row.size_mb:.1f}",
    ]
    return (
        f'<tr><th><span class="dot" style="background:{series.color}"></span>{escape(row.key)}</th>'
        f'<td class="verdict {row.verdict}">{row.verdict}</td>'
        f"{''.join(f'<td>{escape(c)}</td>' for c in cells)}</tr>"
    )


def _drops(parity: Parity, series: Mapping[str, Series]) -> str:
    rows = [r for r in parity.rows[1:] if r.ap_drop is not None and r.ap_drop_interval is not None]
    if not rows:
        return ""
    drops = [r.ap_drop for r in rows if r.ap_drop is not None]
    intervals = [r.ap_drop_interval for r in rows if r.ap_drop_interval is not None]
    return section(
        "AP lost",
        f"Dot: the loss on {parity.data['people']} people. Line: 95 % interval of a paired bootstrap over images. "
        f"Dashed: the allowed loss, {parity.max_drop:g}; a dot in the tinted zone fails.",
        both(lambda width: plots.forest([series[r.key] for r in rows], drops, intervals, parity.max_drop, width)),
    )


def _drift(parity: Parity, series: Mapping[str, Series]) -> str:
    if not parity.drift:
        return ""
    samples = [d[np.isfinite(d)].astype(np.float64) for d in parity.drift.values()]
    shown = [series[key] for key in parity.drift]
    legend = "".join(f"<li>{plots.swatch(s)}{escape(s.label)}</li>" for s in shown)
    return section(
        "How far joints move",
        "Share of joints that lie within a distance of where the PyTorch model puts them: a curve further to the right "
        "or lower is a less faithful graph, long before AP tells. Dotted: 95 %. What did not move is at the left edge.",
        both(lambda width: plots.cumulative(shown, samples, width)) + f'<ul class="legend">{legend}</ul>',
    )


def _joints(parity: Parity, contract: Contract) -> str:
    if not parity.drift:
        return ""
    table = np.array([words.joint_drift(d) for d in parity.drift.values()]).T
    order = list(range(len(table)))
    which = "95 % of the people have the joint nearer than this to where the PyTorch model puts it, px of the frame."
    if len(order) > _JOINTS:
        order = sorted(order, key=lambda k: -np.nan_to_num(table[k]).max())[:_JOINTS]
        which += f" The {_JOINTS} joints that move most, of {len(table)}."
    heads = "".join(f"<th>{escape(key).replace(' ', '<br>')}</th>" for key in parity.drift)
    body = "".join(
        f"<tr><th>{escape(contract.keypoints[k].replace('_', ' '))}</th>{''.join(map(_heat, table[k]))}</tr>"
        for k in order
    )
    return section(
        "Joint by joint",
        which,
        f'<div class="scroll"><table class="heat"><thead><tr><th>p95, px</th>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>",
    )


def _heat(value: float) -> str:
    """A cell that is tinted from 0.03 px (rounding) to 10 px (another place)."""
    if not np.isfinite(value):
        return "<td>–</td>"
    share = np.clip(np.log10(max(value, 1e-9) / 0.03) / np.log10(10 / 0.03), 0, 1)
    return f'<td style="--v:{share:.2f}">{escape(words.number(value))}</td>'


def _times(parity: Parity, series: Mapping[str, Series]) -> str:
    base = parity.rows[0].ms_per_person
    ran = [r for r in parity.rows if not r.reason]
    notes = [
        f"{r.ms_per_person:.1f} ms" + (f" · {base / r.ms_per_person:.1f}x" if r is not parity.rows[0] else "")
        for r in ran
    ]
    values = [r.ms_per_person for r in ran]
    shown = [series[r.key] for r in ran]
    return section(
        "Time per person",
        "Crop, network and decoding: the median over the frames of this check, and how many times faster than PyTorch.",
        both(lambda width: plots.bars(shown, values, notes, width, "ms per person")),
    )


def _people(parity: Parity, contract: Contract) -> str:
    if not parity.worst:
        return ""
    cards = "".join(_person(i, worst, contract) for i, worst in enumerate(parity.worst))
    return section(
        "The people who differ most",
        "The same person as the PyTorch model and as a graph see them: the person's left blue, right orange. Magenta: "
        "the way from the one to the other. Labelled joints only.",
        f'<div class="people">{cards}</div>',
    )


def _person(index: int, worst: Worst, contract: Contract) -> str:
    height, width = worst.image.shape[:2]
    picture: NDArray[Any] = worst.image
    if max(height, width) > _PICTURE:
        factor = _PICTURE / max(height, width)
        picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    data = base64.b64encode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()).decode()
    # Placed once and shown in every panel; a pixel's centre has whole coordinates, so the picture begins at -0.5.
    image = (
        f'<svg width="0" height="0" style="position:absolute" aria-hidden="true"><defs><image id="p{index}" x="-0.5" '
        f'y="-0.5" width="{width}" height="{height}" href="data:image/jpeg;base64,{data}"/></defs></svg>'
    )
    known = worst.truth is not None
    shown = worst.truth[:, 2] > 0 if worst.truth is not None else np.ones(len(worst.reference_xy), bool)
    shape = layout(contract)
    names = [SIDES[i] for i in (*shape.joint_sides, *shape.limb_sides)]
    panels = [("PyTorch", worst.reference_xy, None), (worst.key, worst.candidate_xy, worst.reference_xy)]
    if known and worst.truth is not None:
        panels.append(("labels", worst.truth[:, :2], None))
    figures = "".join(
        f"<figure>{plots.pose(f'p{index}', (width, height), xy, shown, contract.skeleton, names, before)}"
        f"<figcaption>{escape(title)}</figcaption></figure>"
        for title, xy, before in panels
    )
    moved = np.where(shown, np.linalg.norm(worst.candidate_xy - worst.reference_xy, axis=1), -1)
    far = int(moved.argmax())
    joint = contract.keypoints[far].replace("_", " ")
    return (
        f'<div class="person">{image}<p><b>{escape(worst.key)}</b> moves the joints by {worst.drift:.1f} px on average '
        f"<small>· {escape(joint)} by {moved[far]:.1f} px · crop of {width}x{height} px</small></p>"
        f'<div class="panels">{figures}</div></div>'
    )


def _making(parity: Parity, meta: Mapping[str, Any]) -> str:
    data = parity.data
    kinds = {"demo": "synthetic people, made by the demo's generator", "user": "the user's images"}
    rows: list[tuple[str, Any]] = [
        ("Command", meta.get("command")),
        ("Model", meta.get("model")),
        ("Weights", meta.get("weights")),
        ("Judged on", f"{data['images']} images, {data['people']} people: {kinds.get(data['kind'], data['kind'])}"),
        ("Int8 ranges", {k: v for k, v in (meta.get("calibration") or {}).items() if k in _ORIGIN}),
        ("Published", meta.get("published")),
        ("Machine", meta.get("machine")),
        ("Versions", meta.get("versions")),
    ]
    told = {"command", "model", "weights", "calibration", "published", "machine", "versions", "bundle"}
    rows += [(key.replace("_", " ").capitalize(), value) for key, value in meta.items() if key not in told]
    items = "".join(
        f"<dt>{escape(name)}</dt><dd>{_code(name, _plain(value))}</dd>"
        for name, value in rows
        if value not in (None, {})
    )
    texts = "".join(f"<li>{escape(t)}</li>" for t in words.limits(parity, meta))
    return section(
        "How this was made",
        "Everything that is needed to make it again.",
        f'<dl>{items}</dl><h3>What this does not prove</h3><ul class="limits">{texts}</ul>',
    )


def _plain(value: Any) -> str:
    """A JSON value in a line; long lists are counted."""
    if isinstance(value, Mapping):
        return " · ".join(f"{k} {_plain(v)}" for k, v in value.items() if v not in (None, "", {}, []) and not _long(v))
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _long(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple) and len(value) > 20


def _code(name: str, text: str) -> str:
    return f"<code>{escape(text)}</code>" if name == "Command" else escape(text)
