"""Annotate on many machines with Ray: `posert annotate --ray`, and data sets of Ray Data.

The road of one machine does not come through here.
"""

from __future__ import annotations

from .cluster import Cluster
from .dataset import annotate
from .job import annotate_sources, choose_there

__all__ = ["Cluster", "annotate", "annotate_sources", "choose_there"]
