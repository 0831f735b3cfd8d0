"""The result files of a shard get their place: both are complete, or not there."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ..system.storage import Storage, is_url
from .folder import FRAMES, PEOPLE
from .shard import Shard


def publish(shard: Shard, work: Path, target: str) -> list[int]:
    """Move a shard's complete files from a folder of this machine to their place; returns their sizes.

    Args:
        shard: whose.
        work: where they are; on the same disk as the target, if that is a path.
        target: path or URL of the results.

    Raises OSError, or InputError for a URL: they cannot be written.
    """
    sizes = []
    for part in (FRAMES, PEOPLE):
        file = work / part / f"{shard.name}.parquet"
        sizes.append(file.stat().st_size)
        if is_url(target):
            Storage(target).put(file, f"{part}/{file.name}")
            file.unlink()
        else:
            _sync(file)
            os.replace(file, Path(target) / part / file.name)
    return sizes


def _sync(file: Path) -> None:
    """Wait until a file is on the disk: the journal must not tell of what a power cut would take."""
    descriptor = os.open(file, os.O_RDWR)
    try:
        with contextlib.suppress(OSError):  # a file system that cannot
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
