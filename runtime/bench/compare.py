"""`posert bench --compare A.json B.json`: whether B is slower than A."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..bundle.schema import NUMBER, check_shape
from ..errors import InputError
from ..system.input_file import read_text_file
from ..system.json_text import parse_json
from .stages import END_TO_END, INFERENCE, LEGACY_NAMES
from .statistics import Ratio, Series, per_round, ratio, ratio_apart

KIND, SCHEMA = "posert bench", 2

_ROW = {"stage?": str, "part?": str, "people": int, "frames": int, "seconds": [[NUMBER]], "*": object}
_CELL = {"error?": str, "backend": str, "precision": str, "rows?": [_ROW], "*": object}
_MEASURED = {"mode": str, "rows": object, "launches": [int], "yardstick": [[NUMBER]], "*": object}
_SHAPE = {
    **dict.fromkeys(("kind", "session", "date", "python"), str),
    "bundle": {"name": str, "path": str, "*": object},
    "machine": {"cpu": {"name": object, "*": object}, "gpu": object, "*": object},
    "cells": [_CELL],
    "*": object,
}

Key = tuple[str, str, str, int]


@dataclass(frozen=True)
class Verdict:
    """The time of B in units of A's in a row that both have: end to end, and inference only where both have that."""

    backend: str
    precision: str
    mode: str
    people: int
    ratio: Ratio
    inference: Ratio | None


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A result of `posert bench --output`, also of posert 0.1.0-dev (schema 1); InputError for another file."""
    try:
        result = parse_json(read_text_file(path))
        if not isinstance(result, dict) or result.get("kind") != KIND or result.get("schema") not in (1, SCHEMA):
            raise ValueError(f"not a result of `posert bench` of schema {SCHEMA} or 1")
        check_shape(result, _SHAPE, "the result")
        for cell in result["cells"]:
            if "rows" in cell:
                check_shape(cell, _MEASURED, "a cell with rows")
            for row in cell.get("rows", ()):
                if row["frames"] < 1 or not all(row["seconds"]) or not all(cell["yardstick"]):
                    raise ValueError("a row without frames or times")
                row["stage"] = LEGACY_NAMES.get(row["part"], row["part"]) if "part" in row else row["stage"]
    except (OSError, ValueError, LookupError) as error:
        mend = "make one with `posert bench BUNDLE --output FILE`"
        raise InputError(f"{path}: cannot be read ({error}); {mend}") from error
    return result | {"schema": SCHEMA}


def compare(a: dict[str, Any], b: dict[str, Any]) -> list[Verdict]:
    """A verdict for each row that two results share; all together are wrong in at most one of twenty comparisons.

    Results that were timed in turn (`posert bench --against`) are compared round by round, others as two samples.
    Raises InputError: they share no row, or have too few rounds.
    """
    rows_a, rows_b = dict(_rows(a)), dict(_rows(b))
    shared = [key for key in rows_a if END_TO_END in rows_a[key] and END_TO_END in rows_b.get(key, ())]
    if not shared:
        errors = [f": {cell['error']}" for result in (a, b) for cell in result["cells"] if "error" in cell]
        raise InputError("the two results share no row that was measured in both" + "".join(errors[:1]))
    confidence = 1 - 0.05 / len(shared)
    found = []
    for key in shared:
        seen = {}
        for stage in rows_a[key].keys() & rows_b[key].keys():
            x, y = rows_a[key][stage], rows_b[key][stage]
            try:
                if a["session"] != b["session"]:
                    seen[stage] = ratio_apart(x, y, confidence)
                    continue
                n = min(np.size(x.seconds), np.size(y.seconds))  # one may have been interrupted
                first, second, launches = (np.asarray(s)[:n] for s in (x.seconds, y.seconds, x.launches))
                seen[stage] = ratio(first, second, launches, confidence=confidence)
            except ValueError as error:
                raise InputError(f"{' '.join(map(str, key))}: {error}; measure with --rounds 20 or more") from error
        found.append(Verdict(*key, seen[END_TO_END], seen.get(INFERENCE)))
    return found


def lines(a: dict[str, Any], b: dict[str, Any], verdicts: list[Verdict]) -> list[str]:
    """The verdicts as text, with what a reader needs to judge them."""
    in_turn = a["session"] == b["session"]
    how = "timed in turn" if in_turn else "timed separately"
    text = [f"B against A, {how}: times of B in units of A"]
    for name, r in (("A", a), ("B", b)):
        bundle = f"{r['bundle']['name']} ({r['bundle']['path']})"
        text.append(f"  {name}  {bundle}, run by {r['python']}, {r['date']}")
    if a["machine"]["cpu"]["name"] != b["machine"]["cpu"]["name"] or a["machine"]["gpu"] != b["machine"]["gpu"]:
        text.append("  measured on different machines: the difference may be theirs")
    text.append(f"  {'':34}{END_TO_END:34}{INFERENCE}")
    for v in verdicts:
        name = f"{v.backend} {v.precision} {v.mode} {v.people}"
        inference = "" if v.inference is None else str(v.inference)
        text.append(f"  {name:34}{v.ratio!s:34}{inference:28}{v.ratio.verdict}")
    text.append(f"  {summary(verdicts)}")
    if not in_turn:
        text.append("  To find smaller differences, time both in turn: posert bench B.pose --against A.pose")
    return text


def summary(verdicts: list[Verdict]) -> str:
    """One verdict over all rows."""
    seen = [v.ratio.verdict for v in verdicts]
    told = [f"{seen.count(word)} of {len(seen)} {word}" for word in ("slower", "faster") if word in seen]
    return ", ".join(told) or "no difference"


def to_json(verdicts: list[Verdict]) -> list[dict[str, Any]]:
    """The verdicts as JSON values."""

    def values(r: Ratio | None) -> dict[str, Any] | None:
        return None if r is None else {"point": r.point, "low": r.low, "high": r.high, "verdict": r.verdict}

    return [{**vars(v), "ratio": values(v.ratio), "inference": values(v.inference)} for v in verdicts]


def _rows(result: dict[str, Any]) -> Iterator[tuple[Key, dict[str, Series]]]:
    """Per backend, precision, mode and people: seconds per frame, end to end and inference only."""
    for cell in result["cells"]:
        found: dict[int, dict[str, Series]] = {}
        for row in cell.get("rows", ()):
            if row["stage"] in (END_TO_END, INFERENCE):
                # An interrupt may have left the cell's lists one round longer or shorter.
                n = min(len(row["seconds"]), len(cell["yardstick"]))
                seconds, yardstick = (per_round(times[:n]) for times in (row["seconds"], cell["yardstick"]))
                series = Series(seconds / row["frames"], yardstick, cell["launches"][:n])
                found.setdefault(row["people"], {})[row["stage"]] = series
        for people, stages in found.items():
            yield (cell["backend"], cell["precision"], cell["mode"], people), stages
