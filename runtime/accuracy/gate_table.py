"""The rows of an accuracy gate as a table of text, from a bundle's manifest, for pages and model cards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .verdict import AP


def gate_table(accuracy: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heading and rows of `Bundle.accuracy`, the reference first; what was not measured is a dash."""
    data = accuracy.get("data", {})
    metric = data.get("metric", AP)
    subject = "instance" if data.get("subjects") == "instances" else "person"
    head = ["graph", "verdict", metric, f"{metric} lost", "drift p95, px", f"ms per {subject}", "MB"]
    rows = [
        [
            f"{row['backend']} {row['precision']}",
            row["verdict"],
            _number(row["accuracy"], 4),
            _number(None if row["verdict"] == "reference" else row["accuracy_drop"], 4, "+"),
            _number(None if row["verdict"] == "reference" else row["pixel_drift_p95"], 2),
            _number(row["ms_per_person"], 1),
            _number(row.get("size_mb"), 1),
        ]
        for row in accuracy["rows"]
    ]
    return head, rows


def gate_words(accuracy: Mapping[str, Any]) -> str:
    """What the gate allowed, and on what it measured: one or two sentences."""
    data = accuracy.get("data", {})
    count, subjects = data.get("people"), data.get("subjects", "people")
    if not count:
        return str(data.get("note", ""))
    kinds = {"demo": "synthetic people of posert's generator", "user": "images of whoever built it"}
    where = f"{count} {subjects} in {data.get('images')} images: {kinds.get(data.get('kind'), data.get('kind'))}"
    if not measured(accuracy):
        return f"Accuracy was not measured. Outputs were compared on {where}."
    drift = accuracy.get("max_drift")
    bound = "" if drift is None else f", and 95 % of its joints may move by {drift:g} px"
    allowed = accuracy.get("max_drop") or 0
    return f"A graph may lose {allowed:g} {data.get('metric', AP)}{bound}. Measured on {where}."


def measured(accuracy: Mapping[str, Any]) -> bool:
    """Whether labels said something about the network: its figures are then accuracy."""
    rows, labelled = accuracy["rows"], accuracy.get("data", {}).get("labelled", True)
    return bool(labelled) and any(row["accuracy"] is not None for row in rows)


def _number(value: float | None, digits: int, sign: str = "-") -> str:
    return "–" if value is None else f"{round(value, digits) + 0.0:{sign}.{digits}f}"  # + 0.0: no minus before 0
