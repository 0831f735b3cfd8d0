"""Labelled images split into training, calibration and test sets that share no video, no camera and no lookalikes."""

from .groups import Group, Groups, find_groups
from .sides import assign
from .write import write_sides

__all__ = ["Group", "Groups", "assign", "find_groups", "write_sides"]
