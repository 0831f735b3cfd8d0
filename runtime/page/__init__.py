"""The page of a run: one HTML file with drawn frames to step through, people, joint scores, speed and failures."""

from __future__ import annotations

from .document import section, table
from .example import example
from .jitter import RunJitter
from .run_page import RunPage
from .summary_page import write_summary

__all__ = ["RunJitter", "RunPage", "example", "section", "table", "write_summary"]
