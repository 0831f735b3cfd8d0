"""What `posert export` writes for other programs: one file per format, and those of installed packages (entry points
"posert.exports").

A format's file defines `FORMAT`, a `Format`. It imports its libraries inside functions, so that the command line can
list it where they are not installed, and numpy too, which takes time that `posert --help` does not need.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...runtime.errors import InputError
from ...runtime.registry import Registry

if TYPE_CHECKING:
    from ...runtime.bundle.archive import Bundle

__all__ = ["FORMATS", "Format", "Write"]

Write = Callable[[Path], None]
"""Writes the files of an export into a folder that is empty."""


@dataclass(frozen=True)
class Format:
    """A format of `posert export`.

    Attributes:
        name: of its file or entry point.
        summary: what is written, as an imperative sentence without a full stop.
        add_arguments: declares the options that this format has beside `--output`.
        plan: from the bundle and the options to the work, which is then done without asking again. It raises
            PosertError for what cannot be written: a precision that the bundle lacks, a decode rule without a graph
            form, a library that is not installed. The bundle stays open until the work is done.
    """

    name: str
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    plan: Callable[[Bundle, argparse.Namespace], Write]


FORMATS = Registry("format", __name__, "FORMAT", "posert.exports", Format, InputError)
