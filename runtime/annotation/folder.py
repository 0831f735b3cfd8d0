"""What lies in the folder of an annotation."""

from __future__ import annotations

JOB = "annotation.json"
"""The fingerprint, and what was run."""
PLAN = "plan.jsonl"
JOURNAL = "journal.jsonl"
LOCK = "lock"
PEOPLE = "people"
"""A Parquet file per shard: a row per person, as `posert run --output NAME.parquet` writes it."""
FRAMES = "frames"
"""A Parquet file per shard: a row per frame."""
WORK = "work-"
"""Beginning of the name of a run's folder for files that are not complete; the next run removes it."""
SUMMARY = "summary.json"
PAGE = "report.html"
