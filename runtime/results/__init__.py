"""Results of a run as files: one file per format, chosen by the output's ending, and a reader.

To add a format, add a file with a `FORMAT`, or install a package with an entry point of the group `posert.results`.
Every writer gets one frame after the other; its file is complete or absent.
"""

from __future__ import annotations

from pathlib import Path

from ..registry import Registry
from ._format import Format, FrameResult, Subject, Writer
from ._read import Batch, read, read_about
from ._table import PARQUET_OPTIONS

__all__ = [
    "FORMATS",
    "PARQUET_OPTIONS",
    "Batch",
    "Format",
    "FrameResult",
    "Subject",
    "Writer",
    "format_of",
    "formats",
    "read",
    "read_about",
]


FORMATS = Registry("results format", __name__, "FORMAT", "posert.results", Format)


def formats() -> list[Format]:
    """The formats by name, without plug-ins that do not import (`posert doctor` lists those)."""
    return list(FORMATS.specs().values())


def format_of(path: Path) -> Format | None:
    """The format that a path asks for by its ending; None if no format has it."""
    name = path.name.lower()
    fitting = [one for one in formats() if name.endswith(one.ending)]
    return max(fitting, key=lambda one: len(one.ending), default=None)
