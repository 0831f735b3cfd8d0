"""Defects that are put into posert on purpose, to see that the campaign finds them."""

from __future__ import annotations


def plant(name: str) -> None:
    raise SystemExit(name)
