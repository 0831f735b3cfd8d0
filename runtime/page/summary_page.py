"""The page of an annotation: how much is done, how fast the last run was, what failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..system.files import atomic_write
from ..system.text import writable
from .charts import clock, number_of
from .document import document, section, table

_LISTED = 50  # causes of failures, and shards that failed


def write_summary(path: Path, summary: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Write the page of a summary of `posert annotate`. Raises InputError: the file cannot be written.

    Args:
        summary: as in its summary.json.
        facts: what was run, by name.
    """
    failed = bool(summary["failures"] or summary["stopped"])
    state = "failed" if failed else "interrupted" if summary["interrupted"] or summary["shards"]["left"] else "done"
    text = document(
        "posert annotate",
        summary["output"],
        state,
        _lead(summary),
        _tiles(summary),
        _sections(summary),
        {name: _said(value) for name, value in facts.items()},
        mark="unfinished" if state == "interrupted" else "",
    )
    with atomic_write(path) as file:
        file.write(writable(text).encode())


def _lead(summary: Mapping[str, Any]) -> str:
    shards = summary["shards"]
    text = f"{shards['done']:,} of {shards['planned']:,} shards are done"
    text += f", {shards['failed']:,} failed" if shards["failed"] else ""
    return text + f". {summary['stopped']}." if summary["stopped"] else text + "."


def _tiles(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    run = summary["run"]
    tiles = [
        (f"{summary['frames']:,}", "frames"),
        (f"{summary['people']:,}", "people"),
        (f"{summary['failed_frames']:,}", "frames failed"),
    ]
    if run["frames_per_second"]:
        tiles.append(
            (number_of(run["frames_per_second"]), f"frames per second in the last run, {clock(run['seconds'])}")
        )
        tiles.append((number_of(run["people_per_second"]), "people per second"))
    if run["cost_per_million_frames"] is not None:
        tiles.append(
            (f"{run['cost_per_million_frames']:.2f}", f"a million frames, at {run['price_per_hour']:g} an hour")
        )
    return tiles


def _sections(summary: Mapping[str, Any]) -> list[str]:
    run, sections = summary["run"], []
    stages = [
        (name, f"{one['seconds']:.1f} s", *(number_of(one[f"{what}_per_second"] or 0) for what in ("frames", "people")))
        for name, one in run["stages"].items()
    ]
    if stages:
        note = "Time that the workers waited for each stage, all together, and the rate at which it alone would go on."
        sections.append(_table("Stages of the last run", note, ("stage", "time", "frames/s", "people/s"), stages))
    workers = [
        (name, f"{one['shards']:,}", f"{one['frames']:,}", number_of(one["peak_mb"] or 0))
        for name, one in run["workers"].items()
    ]
    if workers:
        head = ("worker", "shards", "frames", "peak memory, MB")
        sections.append(_table("Workers of the last run", "", head, workers))
    causes = [(why, f"{count:,}") for why, count in summary["failures"].items()]
    if causes:
        sections.append(_table("Failures by cause", "Frames, and shards without results.", ("cause", "times"), causes))
    lost = [(one["source"], one["error"]) for one in summary["failed_shards"]]
    if lost:
        note = "They have no results. --retry-failed does them again."
        sections.append(_table("Shards that failed", note, ("shard", "why"), lost))
    return sections


def _table(title: str, note: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    more = f" The first {_LISTED} of {len(rows):,}." if len(rows) > _LISTED else ""
    return section(title, note + more, table(head, rows[:_LISTED]))


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_said(one)}" for name, one in value.items())
    return "none" if value is None else str(value)
