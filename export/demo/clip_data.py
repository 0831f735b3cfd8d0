"""Clips kept on disk; see `kept`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from . import videos
from .clip_labels import Annotation
from .kept import Made, folder_of, kept
from .people import Image
from .stage import HEIGHT, WIDTH

_SOURCES = (
    *("stable_rng", "mannequin", "appearance", "raster", "scenery", "people"),
    *("seen", "motion", "stage", "scenarios", "clip_labels", "videos"),
)


def cached(split: str, index: int, frames: int = 100, seed: int = 0) -> tuple[Image, list[list[Annotation]]]:
    """`videos.clip`, from the cache if it has been there: images `(T, 360, 480, 3)`, and people by frame."""

    def make() -> Made:
        images, annotations = np.empty((frames, HEIGHT, WIDTH, 3), np.uint8), []
        for number, (image, found) in enumerate(videos.clip(split, index, frames, seed)):
            images[number] = image
            annotations.append(found)
        return images, annotations

    return kept(folder_of_clips(), f"{split}-{seed}-{index}-{frames}", make)


def folder_of_clips() -> Path:
    """Where they are kept."""
    return folder_of("demo-clips", _SOURCES)
