"""Generated people kept on disk, so that only the first use pays for drawing them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.system.files import atomic_write, cache_folder
from . import people
from .people import Image


def cached(split: str, count: int, seed: int = 0) -> tuple[Image, dict[str, Any]]:
    """`people.generate`, from the cache if it has been there; the images `(count, 240, 320, 3)` are read-only."""
    folder = folder_of_images()
    pixels, labels = folder / f"{split}-{seed}-{count}.npy", folder / f"{split}-{seed}-{count}.json"
    if not (pixels.exists() and labels.exists()):
        images, found = people.generate(split, count, seed)
        with atomic_write(pixels) as file:  # two processes that start together both end with a whole file
            np.save(file, images)
        with atomic_write(labels) as file:
            file.write(json.dumps(found).encode())
    return np.load(pixels, mmap_mode="r"), json.loads(labels.read_text())


def folder_of_images() -> Path:
    """Named after the generator's source: images of another generator are never taken for this one's."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for name in ("stable_rng", "mannequin", "appearance", "raster", "scenery", "seen", "people"):
        digest.update((here / f"{name}.py").read_bytes())
    return cache_folder() / f"demo-{digest.hexdigest()[:12]}"
