"""posert's own JSON: one object with what was run, a record per frame and the summary."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from ..system.files import atomic_write
from ._format import Format, FrameResult, Subject, Writer

_dump = partial(json.dumps, allow_nan=False)


class _JsonWriter(Writer):
    def __init__(self, file: BinaryIO, subject: Subject) -> None:
        self._file, self._separator = file, "\n"
        self._key = "file" if subject.keys else "frame"
        head = {"source": subject.source, **subject.facts, "keypoints": subject.contract.keypoints}
        fields = [f"{_dump(name)}: {_dump(value)},\n" for name, value in head.items()]
        self._write(f'{{{"".join(fields)}"frames": [')

    def add(self, result: FrameResult) -> None:
        record: dict[str, Any] = {self._key: result.key}
        if result.people is None:
            record["error"] = result.error
        else:
            size = {"width": result.width, "height": result.height}
            record |= size | {"people": result.people.to_json()}
        self._write(self._separator + _dump(record))  # in one call, so that an interrupt falls between records
        self._separator = ",\n"

    def finish(self, summary: Mapping[str, Any]) -> None:
        self._write('\n],\n"summary": ' + _dump(summary) + "\n}\n")

    def _write(self, text: str) -> None:
        self._file.write(text.encode())


@contextlib.contextmanager
def _open(path: Path, subject: Subject) -> Iterator[Writer]:
    with atomic_write(path) as file:
        yield _JsonWriter(file, subject)


FORMAT = Format("json", ".json", "posert's JSON, with what was run and what failed", _open)
