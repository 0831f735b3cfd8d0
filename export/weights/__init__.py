"""Checkpoints: download, read, and fit them to a network."""
