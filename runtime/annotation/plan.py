"""The work of an annotation in shards: what each one reads, and in which order their results stand."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from ..errors import InputError
from ..system.files import atomic_write
from ..system.input_file import check_text_file
from .reading import count_frames
from .shard import Shard
from .sources import Found

_PROBES = 8  # videos that are opened at a time to learn their length


class Plan:
    """All shards of a folder. A plan only grows: shards keep their numbers, and new sources come at its end.

    Args:
        path: its file; there may be none yet.

    Raises InputError: the file is damaged or of another version of posert.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shards: list[Shard] = []
        if path.is_file():
            try:
                check_text_file(path)
                with path.open(encoding="utf-8") as lines:
                    self.shards = [Shard.from_json(json.loads(line)) for line in lines]
                if [shard.number for shard in self.shards] != list(range(len(self.shards))):
                    raise ValueError("its shards are not numbered from 0")
            except (OSError, ValueError, RecursionError) as error:
                raise InputError(f"{path}: not a plan that this version of posert wrote ({error})") from error

    def __len__(self) -> int:
        return len(self.shards)

    def extend(self, found: Iterable[Found], images: int, frames: int | None) -> int:
        """Plan what is not planned yet, and write the plan; returns the number of new shards.

        Args:
            found: the sources; what the plan has already is passed over.
            images: how many make a shard.
            frames: how many of a video make a shard; None: all of them.

        Raises InputError: the plan cannot be written.
        """
        planned, ends = set[str](), defaultdict[str, int](int)
        for shard in self.shards:
            planned.update(f"{shard.source}/{name}" for name in shard.names)
            if shard.names:
                ends[shard.source] = shard.first + len(shard.names)
            else:
                planned.add(shard.source)
        new: list[Shard] = []
        for source in found:
            if source.kind == "images":
                names = [name for name in source.names if f"{source.path}/{name}" not in planned]
                planned.update(f"{source.path}/{name}" for name in names)
                new += _cut_images(source.path, names, ends[source.path], images)
                ends[source.path] += len(names)
            elif source.path not in planned:
                planned.add(source.path)
                new.append(Shard(0, source.kind, source.path))
        if not new:
            return 0
        before = len(self.shards)
        numbered = self.shards + [replace(s, number=before + i) for i, s in enumerate(_cut_videos(new, frames))]
        with atomic_write(self.path) as file:
            file.writelines(json.dumps(shard.to_json()).encode() + b"\n" for shard in numbered)
        self.shards = numbered
        return len(self.shards) - before


def _cut_images(folder: str, names: Sequence[str], first: int, size: int) -> Iterator[Shard]:
    for at in range(0, len(names), size):
        part = tuple(names[at : at + size])
        yield Shard(0, "images", folder, part, first + at, frames=len(part))


def _cut_videos(shards: Sequence[Shard], size: int | None) -> Iterator[Shard]:
    """Shards with the numbers of frames that videos and tar files declare, and long videos in spans.

    The last span has no end, so that no frame is left out where a video declares too few.
    """
    with ThreadPoolExecutor(_PROBES) as pool:
        counts = pool.map(lambda s: s.frames if s.names else count_frames(s.kind, s.source), shards)
        for shard, count in zip(shards, counts, strict=True):
            if shard.kind != "video" or size is None or not count:
                yield replace(shard, frames=count)
                continue
            starts = range(0, count, size)
            for first in starts:
                stop = None if first == starts[-1] else first + size
                yield replace(shard, first=first, stop=stop, frames=(stop or count) - first)
