"""Identities: which instance of this frame is which of the last one, by joints and boxes alone.

`Tracker` gives each instance (a person, a mouse, whatever the network was trained on) an id that it keeps, and the
boxes to look for it in frames without a detection.
"""

from .tracker import DROPPED, Tracker

__all__ = ["DROPPED", "Tracker"]
