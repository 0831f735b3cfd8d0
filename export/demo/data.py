"""Generated people kept on disk, so that only the first use pays for drawing them."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.system.files import cache_folder
from . import people
from .people import Image


def cached(split: str, count: int, seed: int = 0) -> tuple[Image, dict[str, Any]]:
    """`people.generate`, from the cache if it has been there; the images `(count, 240, 320, 3)` are read-only."""
    folder = folder_of_images()
    pixels, labels = folder / f"{split}-{seed}-{count}.npy", folder / f"{split}-{seed}-{count}.json"
    if not (pixels.exists() and labels.exists()):
        folder.mkdir(parents=True, exist_ok=True)
        # Written beside and renamed: two processes that start together both end with a whole file.
        with tempfile.TemporaryDirectory(dir=folder) as beside:
            images, found = people.generate(split, count, seed)
            np.save(Path(beside, "images.npy"), images)
            Path(beside, "labels.json").write_text(json.dumps(found))
            os.replace(Path(beside, "images.npy"), pixels)
            os.replace(Path(beside, "labels.json"), labels)
    return np.load(pixels, mmap_mode="r"), json.loads(labels.read_text())


def folder_of_images() -> Path:
    """Named after the generator's source: images of another generator are never taken for this one's."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for name in ("stable_rng", "mannequin", "appearance", "raster", "scenery", "people"):
        digest.update((here / f"{name}.py").read_bytes())
    return cache_folder() / f"demo-{digest.hexdigest()[:12]}"
