"""Layers that several networks share, with the key names that published checkpoints use."""

__all__ = ["blocks", "features", "head"]
