"""`posert bench compare A.json B.json`: is B slower than A, or did the machine only look so?"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .paired import Ratio, Series, apart, per_round, ratio

KIND, SCHEMA = "posert bench", 1

Key = tuple[str, str, str, int]


@dataclass(frozen=True)
class Verdict:
    """How many times as long B took as A.

    Attributes:
        backend, precision, mode, people: the row that both have.
        ratio: of the whole, frame to keypoints.
        engine: of the bare engine, where both have it.
    """

    backend: str
    precision: str
    mode: str
    people: int
    ratio: Ratio
    engine: Ratio | None


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A result of `posert bench --output`.

    Raises:
        InputError: it is no such file.
    """
    try:
        result = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); make one with `posert bench BUNDLE --output FILE`"
        ) from error
    if not isinstance(result, dict) or (result.get("kind"), result.get("schema")) != (KIND, SCHEMA):
        raise InputError(
            f"{path}: no result of `posert bench` of schema {SCHEMA}; measure again: posert bench --output"
        )
    return result


def compare(a: dict[str, Any], b: dict[str, Any]) -> list[Verdict]:
    """A verdict for each row that two results share; all together are wrong in one of twenty comparisons at most.

    Results that were timed in turn (`posert bench --against`) are compared round by round, others as two samples.

    Raises:
        InputError: they share no row, or have too few rounds.
    """
    in_turn = a["session"] == b["session"]
    rows_a, rows_b = dict(_rows(a)), dict(_rows(b))
    shared = [key for key in rows_a if key in rows_b and "whole" in rows_a[key] and "whole" in rows_b[key]]
    if not shared:
        raise InputError("the two results share no row that was measured in both: compare the same backends")
    confidence = 1 - 0.05 / len(shared)

    def one(key: Key, part: str) -> Ratio | None:
        if part not in rows_a[key] or part not in rows_b[key]:
            return None
        x, y = rows_a[key][part], rows_b[key][part]
        try:
            if not in_turn:
                return apart(x, y, confidence)
            n = min(np.size(x.seconds), np.size(y.seconds))  # one may have been interrupted
            first, second, launches = (np.asarray(s)[:n] for s in (x.seconds, y.seconds, x.launches))
            return ratio(first, second, launches, confidence=confidence)
        except ValueError as error:
            raise InputError(f"{' '.join(map(str, key))}: {error}; measure with --rounds 20 or more") from error

    found = []
    for key in shared:
        whole = one(key, "whole")
        assert whole is not None
        found.append(Verdict(*key, whole, one(key, "bare engine")))
    return found


def lines(a: dict[str, Any], b: dict[str, Any], verdicts: list[Verdict]) -> list[str]:
    """The verdicts as text, and what must be known to judge them."""
    how = "timed in turn" if a["session"] == b["session"] else "timed at two moments"
    text = [f"B against A, {how}: times of B in units of A", f"  A  {_name(a)}", f"  B  {_name(b)}"]
    if a["machine"]["cpu"]["name"] != b["machine"]["cpu"]["name"] or a["machine"]["gpu"] != b["machine"]["gpu"]:
        text.append("  on different machines: what differs may be they")
    text.append(f"  {'':34}{'frame to keypoints':34}bare engine")
    for v in verdicts:
        name = f"{v.backend} {v.precision} {v.mode} {v.people}"
        engine = "" if v.engine is None else f"{v.engine.point:.3f} ({v.engine.low:.3f} to {v.engine.high:.3f})"
        seen = f"{v.ratio.point:.3f} ({v.ratio.low:.3f} to {v.ratio.high:.3f})"
        text.append(f"  {name:34}{seen:34}{engine:28}{v.ratio.verdict}")
    text.append(f"  {summary(verdicts)}")
    if a["session"] != b["session"]:
        text.append("  Smaller differences show where both are timed in turn: posert bench A.pose --against B.pose")
    return text


def summary(verdicts: list[Verdict]) -> str:
    """One verdict over all rows."""
    slower = sum(v.ratio.verdict == "slower" for v in verdicts)
    faster = sum(v.ratio.verdict == "faster" for v in verdicts)
    if not slower and not faster:
        return "no difference"
    return ", ".join(f"{n} of {len(verdicts)} {word}" for n, word in ((slower, "slower"), (faster, "faster")) if n)


def to_json(verdicts: list[Verdict]) -> list[dict[str, Any]]:
    """The verdicts as JSON values."""

    def values(r: Ratio | None) -> dict[str, Any] | None:
        return None if r is None else {"point": r.point, "low": r.low, "high": r.high, "verdict": r.verdict}

    return [{**vars(v), "ratio": values(v.ratio), "engine": values(v.engine)} for v in verdicts]


def _name(result: dict[str, Any]) -> str:
    bundle, version = result["bundle"], result["versions"].get("posert")
    return f"{bundle['name']} ({bundle['path']}), posert {version}, {result['date']}"


def _rows(result: dict[str, Any]) -> Iterator[tuple[Key, dict[str, Series]]]:
    """Per backend, precision, mode and people: seconds per frame of the whole and of the bare engine."""
    for cell in result["cells"]:
        found: dict[int, dict[str, Series]] = {}
        for row in cell.get("rows", ()):
            if row["part"] in ("whole", "bare engine"):
                # An interrupt may have left the cell's lists one round longer or shorter.
                n = min(len(row["seconds"]), len(cell["yardstick"]))
                seconds, yardstick = (per_round(times[:n]) for times in (row["seconds"], cell["yardstick"]))
                series = Series(seconds / row["frames"], yardstick, cell["launches"][:n])
                found.setdefault(row["people"], {})[row["part"]] = series
        for people, parts in found.items():
            yield (cell["backend"], cell["precision"], cell["mode"], people), parts
