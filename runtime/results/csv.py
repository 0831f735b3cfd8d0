"""CSV: one row a person, `file` (images only), `frame`, `person`, `id`, `width`, `height`, the box, the joints.

Of smoothed joints the raw ones follow, `NAME_raw_x` and `NAME_raw_y`. What is not known is an empty field. Coordinates
have at most four decimals.
"""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..system.files import atomic_write
from ..system.text import writable
from ._format import Format, FrameResult, Subject, Writer
from ._table import ids, number_columns, numbers


class _CsvWriter(Writer):
    def __init__(self, file: BinaryIO, subject: Subject) -> None:
        self._file, self._subject, self._named = file, subject, bool(subject.keys)
        name = ["file"] if self._named else []
        columns = number_columns(subject)
        self._write([[*name, "frame", "person", "id", "width", "height", *columns]])

    def add(self, result: FrameResult) -> None:
        people = result.people
        if not people:
            return
        table = numbers(people, self._subject).astype(np.float64).round(4)
        name, size = [result.key] if self._named else [], [result.width, result.height]
        self._write(
            [*name, result.index, person, number, *size, *("" if value != value else value for value in row)]
            for person, (number, row) in enumerate(zip(ids(people), table.tolist(), strict=True))
        )

    def finish(self, summary: Mapping[str, Any]) -> None:
        """A CSV file has no place for it."""

    def _write(self, rows: Iterable[Sequence[Any]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._file.write(writable(text.getvalue()).encode())  # in one call: an interrupt falls between frames


@contextlib.contextmanager
def _open(path: Path, subject: Subject) -> Iterator[Writer]:
    with atomic_write(path) as file:
        yield _CsvWriter(file, subject)


FORMAT = Format("csv", ".csv", "a table, one row a person", _open)
