"""Clips kept on disk, so that only the first use pays for drawing them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from ...runtime.system.files import atomic_write, cache_folder
from . import videos
from .clip_labels import Annotation
from .people import Image
from .stage import HEIGHT, WIDTH

_SOURCES = (
    *("stable_rng", "mannequin", "appearance", "raster", "scenery", "people"),
    *("seen", "motion", "stage", "scenarios", "clip_labels", "videos"),
)


def cached(split: str, index: int, frames: int = 100, seed: int = 0) -> tuple[Image, list[list[Annotation]]]:
    """`videos.clip`, from the cache if it has been there: images `(T, 360, 480, 3)`, read-only, and people by frame."""
    folder = folder_of_clips()
    name = f"{split}-{seed}-{index}-{frames}"
    pixels, labels = folder / f"{name}.npy", folder / f"{name}.json"
    if not (pixels.exists() and labels.exists()):
        images, annotations = np.empty((frames, HEIGHT, WIDTH, 3), np.uint8), []
        for number, (image, found) in enumerate(videos.clip(split, index, frames, seed)):
            images[number] = image
            annotations.append(found)
        with atomic_write(pixels) as file:  # two processes that start together both end with a whole file
            np.save(file, images)
        with atomic_write(labels) as file:
            file.write(json.dumps(annotations).encode())
    return np.load(pixels, mmap_mode="r"), json.loads(labels.read_text())


def folder_of_clips() -> Path:
    """Named after the generator's source: clips of another generator are never taken for this one's."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for name in _SOURCES:
        digest.update((here / f"{name}.py").read_bytes())
    return cache_folder() / f"demo-clips-{digest.hexdigest()[:12]}"
