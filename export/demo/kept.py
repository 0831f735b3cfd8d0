"""Generated images and their labels, kept on disk so that only the first use pays for drawing them."""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.system.files import atomic_write, cache_folder

Made = tuple[NDArray[np.uint8], Any]
"""Images `(N, H, W, 3)` uint8 BGR, and labels as JSON values."""


def kept(folder: Path, name: str, make: Callable[[], Made]) -> Made:
    """What `make` gives, from the files in `folder` if they are whole. The images are read-only then.

    The labels' file begins with the CRC-32 of the images' file and of the labels: whatever happened to a cache, nothing
    else comes out of it.
    """
    pixels, labels = folder / f"{name}.npy", folder / f"{name}.json"
    try:
        return _read(pixels, labels)
    except (OSError, ValueError):
        images, found = make()
    stream, text = io.BytesIO(), json.dumps(found).encode()
    np.save(stream, images)
    sums = f"{zlib.crc32(stream.getbuffer()):08x} {zlib.crc32(text):08x}\n".encode()
    for path, data in ((pixels, stream.getbuffer()), (labels, sums + text)):
        with atomic_write(path) as file:  # two processes that start together both end with a whole file
            file.write(data)
    return images, json.loads(text)


def folder_of(kind: str, sources: Sequence[str]) -> Path:
    """Named after the generator's sources: images of another generator are never taken for this one's."""
    digest = hashlib.sha256()
    for name in sources:
        digest.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    return cache_folder() / f"{kind}-{digest.hexdigest()[:12]}"


def _read(pixels: Path, labels: Path) -> Made:
    """Raises OSError or ValueError: they are not there, or not as they were written."""
    sums, _, text = labels.read_bytes().partition(b"\n")
    if sums != f"{_crc32(pixels):08x} {zlib.crc32(text):08x}".encode():
        raise ValueError("damaged")
    return np.load(pixels, mmap_mode="r"), json.loads(text)


def _crc32(path: Path) -> int:
    found = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found = zlib.crc32(block, found)
    return found
