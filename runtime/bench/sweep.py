"""All cells of a bundle, or of two in turn: what is measured, what is skipped and why, and the result's file."""

from __future__ import annotations

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
from ..backends import BACKENDS
from ..bundle.archive import Bundle
from ..engines.engine_file import EngineFile
from ..selection import open_model
from ..system.files import atomic_write, sha256
from ..system.machine import versions
from ..system.progress import track
from .compare import KIND, SCHEMA
from .measure import Cell, Record, Settings, Side, measure
from .meters import Meters

Result = dict[str, Any]
Cells = tuple[str, str, list[str]]  # backend, precision or "all", modes


def sweep(
    sides: Sequence[Side], settings: Settings, cells: list[Cells], outputs: Sequence[Path | None]
) -> list[Result]:
    """Measure cells of one bundle, or of several sides in turn; the precision "all" stands for those in a bundle.

    Results are written after each cell, so that an interrupt keeps what was measured.
    """
    meters, session = Meters(), uuid.uuid4().hex
    results: list[Result] = []
    held: set[str] = set()
    for side in sides:
        with open_model(side.bundle) as bundle:
            results.append(_head(side, bundle, settings, meters, session))
            held |= set(bundle.artifacts)
    expanded, start = list(_expand(cells, held, results)), time.monotonic()
    for done, cell in enumerate(track(expanded, "bench")):
        if not sys.stderr.isatty():  # a line for a log file; a terminal has a progress bar
            left = (time.monotonic() - start) / max(1, done) * (len(expanded) - done) / 60
            told = f", about {left:.0f} min left" if done else ""
            print(f"bench {done + 1} of {len(expanded)}: {' '.join(cell)}{told}", file=sys.stderr, flush=True)
        records: list[Record] = [dict(zip(("backend", "precision", "mode"), cell, strict=True)) for _ in sides]
        interrupted = False
        try:
            measure(sides, cell, settings, meters, records)
        except KeyboardInterrupt:
            interrupted = True
        for result, record, path in zip(results, records, outputs, strict=True):
            result["interrupted"] = interrupted
            if record.get("launches") or "error" in record:
                result["cells"].append(record | accuracy(result, record))
            if path is not None:
                with atomic_write(path) as file:
                    file.write(json.dumps(result).encode())
        if interrupted:
            break
    return results


def accuracy(result: Result, record: Record) -> Record:
    """AP of a backend and precision according to the bundle's gate, and on how many people."""
    gate = result["accuracy"]
    if result["settings"]["flip_test"]:
        return {"accuracy": None, "ap_note": "not measured with flip test"}
    for row in gate["rows"]:
        if (row["backend"], row["precision"]) == (record["backend"], record["precision"]):
            note = "unproven" if row["accuracy"] is None else f"{gate['people']} {gate['kind']} people"
            return {"accuracy": row["accuracy"], "ap_note": note}
    return {"accuracy": None, "ap_note": "not measured on this backend"}


def _expand(cells: list[Cells], held: set[str], results: list[Result]) -> Iterator[Cell]:
    """Cells with every precision by name; backends that cannot run become rows of the results."""
    probes = {backend: doctor.probe(backend) for backend in dict.fromkeys(backend for backend, _, _ in cells)}
    for backend, probe in probes.items():
        if probe.state != "ready":
            for result in results:
                result["cells"].append({"backend": backend, "error": f"{probe.state}: {probe.reason}"})
    for backend, precision, modes in cells:
        if probes[backend].state == "ready":
            artifacts = BACKENDS.load(backend).precisions
            every = [name for name in probes[backend].facts["precisions"] if artifacts[name] in held]
            for name in every if precision == "all" else [precision]:
                yield from ((backend, name, mode) for mode in modes)


def _head(side: Side, bundle: Bundle | EngineFile, settings: Settings, meters: Meters, session: str) -> Result:
    gate = bundle.accuracy
    data = gate.get("data", {})
    rows = [{k: r.get(k) for k in ("backend", "precision", "accuracy", "verdict")} for r in gate["rows"]]
    return {
        "kind": KIND,
        "schema": SCHEMA,
        "session": session,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "bundle": {"name": bundle.name, "path": str(side.bundle), "sha256": sha256(side.bundle)},
        "accuracy": {"rows": rows, "people": data.get("people", 0), "kind": data.get("kind", "labelled")},
        "settings": asdict(settings),
        "python": side.python,
        "machine": meters.describe(),
        "versions": versions(),
        "interrupted": False,
        "cells": [],
    }
