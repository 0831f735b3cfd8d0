"""The gate's result as a table in the terminal, as `report.json` and as `report.html`."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...runtime.accuracy.drift import FEWEST
from ...runtime.accuracy.verdict import Parity
from ...runtime.bundle.contract import Contract
from ...runtime.system.files import atomic_write
from ...runtime.system.text import writable
from .int8_words import settled_text
from .page import page
from .suspects import Pair
from .words import (
    JUMP_NOTE,
    dark_note,
    drift_note,
    headline,
    height_classes,
    interval_text,
    jitter_note,
    joint_drift,
    limits,
    number,
    share,
    signed,
    subject,
)

_BLOCKS = 8  # in the terminal; the page shows more
_COLORS = {"passed": "green", "failed": "bold red", "undecided": "yellow", "unproven": "yellow", "reference": "dim"}


def write_report(
    parity: Parity,
    contract: Contract,
    out_dir: str | os.PathLike[str],
    meta: Mapping[str, Any],
    suspects: Sequence[Pair] = (),
) -> Path:
    """Write `report.json` and `report.html` into a folder, which is created; return the path of the page.

    Args:
        parity: the gate's result.
        contract: of the model, for the names of the joints and the skeleton.
        out_dir: the folder.
        meta: how it was made; JSON values. Known keys: model, bundle, command, weights, machine, versions,
            calibration, published, suspects.
        suspects: pictures of calibration images that look like one of the gate's.
    """
    folder = Path(out_dir)
    with atomic_write(folder / "report.json") as file:
        file.write(json.dumps(to_json(parity, contract, meta), indent=1, allow_nan=False).encode())
    with atomic_write(folder / "report.html") as file:
        file.write(writable(page(parity, contract, meta, suspects)).encode())
    return folder / "report.html"


def to_json(parity: Parity, contract: Contract, meta: Mapping[str, Any]) -> dict[str, Any]:
    """The result as JSON values; figures that were not measured are null."""
    joints = {key: dict(zip(contract.keypoints, joint_drift(d), strict=True)) for key, d in parity.drift.items()}
    values = {
        "rows": [row.to_json() for row in parity.rows],
        "verdict": parity.verdict,
        "headline": headline(parity),
        "max_drop": parity.max_drop,
        "max_drift": parity.max_drift,
        "data": parity.data,
        "limits": limits(parity, meta),
        "joint_drift_p95": joints,
        "meta": meta,
    }
    return {key: _finite(value) for key, value in values.items()}


def print_table(parity: Parity, console: Console) -> None:
    """Print the rows, the verdict as a sentence, and the note about the data."""
    labelled = parity.rows[0].accuracy is not None
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("graph")  # long names wrap
    middle = (parity.metric, "lost", "95 % interval") if labelled else ("output\nerror", "drift\nmedian")
    for name in (*middle, "drift\np95 px", f"ms per\n{subject(parity)}", "MB"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in parity.rows:
        figures = (
            (
                number(row.accuracy, "{:.4f}"),
                signed(row.accuracy_drop),
                interval_text(row).replace(" to ", " ").replace("0.", "."),
            )
            if labelled
            else (number(row.heatmap_error, "{:.1e}"), number(row.pixel_drift_median))
        )
        cells = [*figures, number(row.pixel_drift_p95), number(row.ms_per_person, "{:.1f}"), f"{row.size_mb:.1f}"]
        if row.verdict == "reference":  # its difference from itself is always zero
            cells[labelled:-2] = [""] * (len(cells) - 2 - labelled)
        table.add_row(row.key, *cells, f"[{_COLORS[row.verdict]}]{row.verdict}[/]")
    console.print(table)
    if any(row.drift_by_height for row in parity.rows):
        console.print(_drift_table(parity))
    told = Text.assemble((parity.verdict.upper(), _COLORS[parity.verdict]), " ", headline(parity))
    console.print(told, highlight=False)
    notes = [f"Drift: {drift_note(parity)}. {dark_note(parity)}".strip()] if len(parity.rows) > 1 else []
    if any(row.drift_by_height for row in parity.rows):
        notes.append(f"{JUMP_NOTE} By height of the box, px: of fewer than {FEWEST} there is no figure.")
    for note in [*notes, *filter(None, [jitter_note(parity), parity.data.get("note")])]:
        console.print(note, style="dim", markup=False, highlight=False)


def _drift_table(parity: Parity) -> Table:
    """Drift under both rules, jumps, and p95 by height of the box with the number of people in the header."""
    dark = bool(parity.data.get("dark"))
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("drift, px")  # long names wrap
    rules = ("median", "p95", "DARK\nmedian", "DARK\np95") if dark else ("median", "p95")
    for name in (*rules, "jumps", *(f"{name}\n({count})" for name, count in height_classes(parity))):
        table.add_column(name, justify="right", no_wrap=True)
    for row in parity.rows:
        if row.drift_by_height:
            figures: list[float | None] = [row.pixel_drift_median, row.pixel_drift_p95]
            figures += [row.dark_drift_median, row.dark_drift_p95] if dark else []
            figures_by_height = [one.p95 for one in row.drift_by_height]
            cells = [*map(_short, figures), share(row.jumps), *map(_short, figures_by_height)]
            table.add_row(row.key, *cells)
    return table


def _short(value: float | None) -> str:
    """At most five characters, so that ten columns fit into 80: `number` without a zero before the point."""
    text = number(value, "" if value is None or abs(value) < 10 else "{:.1f}" if abs(value) < 100 else "{:.0f}")
    return text.replace("0.", ".", 1) if text.startswith(("0.", "<0.")) else text


def print_blocks(record: Mapping[str, Any], console: Console) -> None:
    """Print what int8 costs and, if blocks were measured one by one, the most sensitive ones."""
    told = settled_text(record["curve"], record["settled"], record["different"])
    console.print(f"int8: {record['verdict']} {told}", markup=False, highlight=False)
    blocks = sorted(record["search"].get("blocks", ()), key=lambda b: (not b["float"], -b["loss"]))
    if not blocks:
        return
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("block", overflow="fold")
    for name in ("multiply-adds", "OKS lost alone", "computed in"):
        table.add_column(name, justify="right", no_wrap=True)
    for b in blocks[:_BLOCKS]:
        table.add_row(Text(b["name"]), f"{b['macs']:.2%}", f"{b['loss']:.5f}", "float" if b["float"] else "int8")
    console.print(table)


def _finite(value: Any) -> Any:
    """NaN and infinity as null, which JSON does not have."""
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
