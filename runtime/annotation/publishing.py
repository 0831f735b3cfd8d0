"""The result files of a shard get their place: both are complete, or not there."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ..errors import InputError, PosertError
from ..system.sealed_lines import crc32
from ..system.storage import Storage, is_url
from .folder import FRAMES, PEOPLE
from .shard import Shard


class OutputError(PosertError):
    """The results cannot be written: no shard could be, so the work ends."""


def publish(shard: Shard, work: Path, target: str) -> dict[str, list[int]]:
    """Move a shard's complete files from a folder of this machine to their place; returns their sizes and sums.

    Args:
        shard: whose.
        work: where they are; on the same disk as the target, if that is a path.
        target: path or URL of the results.

    Raises OutputError: they cannot be written.
    """
    try:
        moved = [_move(work, f"{part}/{shard.name}.parquet", target) for part in (FRAMES, PEOPLE)]
    except (InputError, OSError) as error:
        raise OutputError(f"{shard.title}: cannot write the results: {error}") from error
    return {"bytes": [size for size, _ in moved], "crc32": [sum_ for _, sum_ in moved]}


def _move(work: Path, name: str, target: str) -> tuple[int, int]:
    file = work / name
    size = file.stat().st_size
    with file.open("rb") as opened:
        found = crc32(opened)
    if is_url(target):
        Storage(target).put(file, name)
        file.unlink()
    else:
        _sync(file)
        os.replace(file, Path(target) / name)
    return size, found


def _sync(file: Path) -> None:
    """Wait until a file is on the disk: the journal must not tell of what a power cut would take."""
    descriptor = os.open(file, os.O_RDWR)
    try:
        with contextlib.suppress(OSError):  # a file system that cannot
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
