"""COCO results: a list with one record per person, as pycocotools' `loadRes` reads it.

An image's id is the number that its name ends in, as in COCO (`COCO_val2014_000000000139.jpg` is 139), if all images
have such a number of their own; otherwise it is the file's name. A frame's id is its number.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ..datasets import DATASETS, dataset
from ..system.files import atomic_write
from ._format import Format, FrameResult, Subject, Writer

_ENCODE = json.JSONEncoder(allow_nan=False).encode  # json.dumps would make an encoder for each record


class _CocoWriter(Writer):
    def __init__(self, file: BinaryIO, subject: Subject) -> None:
        self._file, self._separator = file, "\n"
        self._ids = image_ids(subject.keys)
        self._parts = _parts(subject)
        file.write(b"[")

    def add(self, result: FrameResult) -> None:
        if not result.people:  # a list of people has no place for a frame without any
            return
        image = self._ids.get(str(result.key), result.key)
        records = result.people.to_coco(image, parts=self._parts)
        text = self._separator + ",\n".join(map(_ENCODE, records))
        self._file.write(text.encode())
        self._separator = ",\n"

    def finish(self, summary: Mapping[str, Any]) -> None:
        self._file.write(b"\n]\n")


def image_ids(names: Sequence[str]) -> dict[str, int]:
    """The COCO id of each image, or nothing if not every image has a number of its own at the end of its name."""
    found = {}
    for name in names:
        stem = os.path.splitext(os.path.basename(name))[0]
        digits = stem[len(stem.rstrip("0123456789")) :]
        if digits:
            found[name] = int(digits)
    return found if len(set(found.values())) == len(names) else {}


def _parts(subject: Subject) -> tuple[tuple[str, int, int], ...]:
    """The fields of a record, for data sets that are scored by parts of the body."""
    if subject.contract.dataset not in DATASETS.names():
        return ()
    known = dataset(subject.contract.dataset)
    if known.keypoints != subject.contract.keypoints:
        return ()
    return tuple((field, first, last) for _, field, first, last in known.parts)


@contextlib.contextmanager
def _open(path: Path, subject: Subject) -> Iterator[Writer]:
    with atomic_write(path) as file:
        yield _CocoWriter(file, subject)


FORMAT = Format("coco", ".coco.json", "COCO results, as pycocotools reads them", _open)
