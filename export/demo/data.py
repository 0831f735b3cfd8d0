"""Generated people kept on disk; see `kept`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import people
from .kept import folder_of, kept
from .people import Image


def cached(split: str, count: int, seed: int = 0) -> tuple[Image, dict[str, Any]]:
    """`people.generate`, from the cache if it has been there; the images `(count, 240, 320, 3)` are read-only then."""
    return kept(folder_of_images(), f"{split}-{seed}-{count}", lambda: people.generate(split, count, seed))


def folder_of_images() -> Path:
    """Where they are kept."""
    return folder_of("demo", ("stable_rng", "mannequin", "appearance", "raster", "scenery", "seen", "people"))
