"""Annotate archives: many videos, images and tar files, on all devices of a machine, in runs that resume.

The work is cut into shards. A journal holds what was done and what failed; a run does what is missing.
"""

from __future__ import annotations

from .devices import choose
from .job import Limits, annotate
from .merge import merge
from .settings import Settings
from .sources import find

__all__ = ["Limits", "Settings", "annotate", "choose", "find", "merge"]
