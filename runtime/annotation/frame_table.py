"""The table of frames: one row for every frame, with or without people, and for every one that failed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..results import PARQUET_OPTIONS, FrameResult
from ..system.files import atomic_write
from ..system.text import writable

if TYPE_CHECKING:
    import pyarrow

SCHEMA = 1
ROWS = 65536
"""Of a group."""


class FrameTable:
    """Writes `source`, `file` (null in a video), `frame`, `width`, `height`, `people`, `error` (null where none)."""

    def __init__(self, file: BinaryIO, source: str, named: bool) -> None:
        from pyarrow.parquet import ParquetWriter

        self._source, self._named = writable(source), named
        self._parquet = ParquetWriter(file, schema(), **PARQUET_OPTIONS, use_dictionary=["source", "error"])
        self._rows: list[tuple[Any, ...]] = []

    def add(self, frame: FrameResult) -> None:
        """Append a frame. Raises InputError: the file cannot be written."""
        people = None if frame.people is None else len(frame.people)
        name = writable(str(frame.key)) if self._named else None
        error = writable(frame.error) or None
        self._rows.append((self._source, name, frame.index, frame.width, frame.height, people, error))
        if len(self._rows) == ROWS:
            self._flush()

    def finish(self) -> None:
        """Write what is left. Raises InputError: the file cannot be written."""
        self._flush()
        self._parquet.close()

    def close(self) -> None:
        """Let go of a file that was not finished."""
        if self._parquet.is_open:
            with contextlib.suppress(Exception):
                self._parquet.close()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [pa.array(values, field.type) for field, values in zip(schema(), columns, strict=True)]
            self._parquet.write_table(pa.Table.from_arrays(arrays, schema=schema()), row_group_size=ROWS)
            self._rows = []


def schema() -> pyarrow.Schema:
    """The columns. `people` is null for a frame that could not be used."""
    import pyarrow as pa

    names = pa.dictionary(pa.int32(), pa.string())
    columns = {"source": names, "file": pa.string(), "frame": pa.int64(), "width": pa.int32(), "height": pa.int32()}
    more = {"people": pa.int32(), "error": names}
    return pa.schema(list((columns | more).items()), metadata={"posert.frames": json.dumps({"schema": SCHEMA})})


@contextlib.contextmanager
def open_frame_table(path: Path, source: str, named: bool) -> Iterator[FrameTable]:
    """A table that is complete when the block ends without an exception, and absent otherwise.

    Args:
        source: of all frames.
        named: whether frames have file names.

    Raises InputError: the file cannot be written.
    """
    with atomic_write(path) as file:
        table = FrameTable(file, source, named)
        try:
            yield table
        finally:
            table.close()
