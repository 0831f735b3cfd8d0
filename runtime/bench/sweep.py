"""All cells of a bundle, or of two in turn: what is measured, what is skipped and why, and the result's file."""

from __future__ import annotations

import hashlib
import json
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .. import doctor
from ..bundle.archive import Bundle
from ..system.environment import versions
from ..system.files import atomic_write
from ..system.progress import track
from .compare import KIND, SCHEMA
from .measure import Interrupted, Record, Settings, Side, measure
from .meters import Meters

Result = dict[str, Any]
Cells = tuple[str, str, list[str]]  # backend, precision or "all", modes


def sweep(
    sides: Sequence[Side], settings: Settings, cells: list[Cells], outputs: Sequence[Path | None]
) -> list[Result]:
    """Measure cells of one bundle, or of several sides in turn; the precision "all" stands for every one.

    Results are written after each cell, so that an interrupt keeps what was measured.
    """
    meters, session = Meters(), uuid.uuid4().hex
    results = [_head(side, settings, meters, session) for side in sides]
    expanded, start = list(_expand(cells, results)), time.monotonic()
    for done, (cell, asked) in enumerate(track(expanded, "bench")):
        _log(" ".join(cell), done, len(expanded), time.monotonic() - start)
        try:
            records = measure(sides, cell, settings, meters)
        except Interrupted as stop:
            records = stop.records
            for result in results:
                result["interrupted"] = True
        for result, record in zip(results, records, strict=True):
            if record.get("launches") or ("error" in record and (asked or not record["absent"])):
                result["cells"].append(record | accuracy(result, record))
        _write(results, outputs)
        if results[0]["interrupted"]:
            break
    return results


def accuracy(result: Result, record: Record) -> Record:
    """AP of a backend and precision according to the bundle's gate, and on how many people."""
    gate = result["accuracy"]
    if result["settings"]["flip_test"]:
        return {"ap": None, "ap_note": "not measured with flip test"}
    for row in gate["rows"]:
        if (row["backend"], row["precision"]) == (record["backend"], record["precision"]):
            note = "unproven" if row["ap"] is None else f"{gate['people']} {gate['kind']} people"
            return {"ap": row["ap"], "ap_note": note}
    return {"ap": None, "ap_note": "not measured on this backend"}


def _log(cell: str, done: int, total: int, seconds: float) -> None:
    """A line for a log file; a terminal has a progress bar. A cell takes half a minute or more."""
    if not sys.stderr.isatty():
        left = f", about {seconds / done * (total - done) / 60:.0f} min left" if done else ""
        print(f"bench {done + 1} of {total}: {cell}{left}", file=sys.stderr, flush=True)


def _expand(cells: list[Cells], results: list[Result]) -> Iterator[tuple[tuple[str, str, str], bool]]:
    """Cells with every precision by name, and whether it was asked for; backends that cannot run become rows."""
    probes: dict[str, doctor.Probe] = {}
    for backend, precision, modes in cells:
        if backend not in probes:
            probes[backend] = probe = doctor.probe(backend)
            if probe.state != "ready":
                for result in results:
                    result["cells"].append({"backend": backend, "error": f"{probe.state}: {probe.reason}"})
        if probes[backend].state == "ready":
            known = list(probes[backend].facts["precisions"])
            for name in known if precision == "all" else [precision]:
                yield from (((backend, name, mode), precision != "all") for mode in modes)


def _head(side: Side, settings: Settings, meters: Meters, session: str) -> Result:
    with Bundle(side.bundle) as bundle:
        gate = bundle.accuracy
        data = gate.get("data", {})
        rows = [{k: r.get(k) for k in ("backend", "precision", "ap", "verdict")} for r in gate["rows"]]
        facts = {"name": bundle.name, "path": str(side.bundle), "sha256": _sha256(side.bundle)}
    return {
        "kind": KIND,
        "schema": SCHEMA,
        "session": session,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "bundle": facts,
        "accuracy": {"rows": rows, "people": data.get("people", 0), "kind": data.get("kind", "labelled")},
        "settings": asdict(settings),
        "python": side.python,
        "machine": meters.describe(),
        "versions": versions(),
        "interrupted": False,
        "cells": [],
    }


def _write(results: list[Result], outputs: Sequence[Path | None]) -> None:
    for result, path in zip(results, outputs, strict=True):
        if path is not None:
            with atomic_write(path) as file:
                file.write(json.dumps(result).encode())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
