"""The page of a run: one HTML file with drawn frames to step through, people, joint scores, speed and failures."""

from __future__ import annotations

from .jitter import RunJitter
from .run_page import RunPage
from .summary_page import write_summary

__all__ = ["RunJitter", "RunPage", "write_summary"]
