"""Checkpoints: download, read, and fit them to a network."""

__all__: list[str] = []
