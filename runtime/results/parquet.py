"""Parquet: the table of the CSV with the source beside each row, so that files of many sources can be put together.

Columns: `source`, `file` (null in a video), `frame`, `person`, `id`, `width`, `height`, the box, `detection_score`, and
x, y and score of every joint, float32 as the runtime gave them; of smoothed joints then the raw x and y. Null is what
is not known. A column's metadata has its `unit`. The schema's metadata has two JSON objects: `posert` (version,
contract, what was run) and, at the end of the file, `posert.summary` (the number of frames, and those that failed: a
frame with nobody in it has no row).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import PosertError
from ..pose.keypoints import BOX_COLUMNS
from ..system.files import atomic_write
from ..system.text import writable
from ._format import Format, FrameResult, Subject, Writer
from ._table import PARQUET_OPTIONS, ids, number_columns, numbers

if TYPE_CHECKING:
    import pyarrow

SCHEMA = 1
_ROWS = 8192  # of a group: 1.8 MB for 17 joints, 13 MB for 133
_PIXELS = "px of the frame; (0, 0) is the centre of the first pixel"
_UNITS = {
    "frame": "position in the source, from 0",
    "person": "index in the frame, from 0",
    "id": "identity from frame to frame",
    "width": "px",
    "height": "px",
    **dict.fromkeys(BOX_COLUMNS, _PIXELS),
    "detection_score": "confidence of the detector in the box",
}


class _ParquetWriter(Writer):
    def __init__(self, file: BinaryIO, subject: Subject) -> None:
        from pyarrow.parquet import ParquetWriter

        self._subject = subject
        self._schema = _schema(subject)
        # Dictionaries for the two columns of names alone: coordinates hardly repeat.
        self._parquet = ParquetWriter(file, self._schema, **PARQUET_OPTIONS, use_dictionary=["source", "file"])
        self._clear()

    def _clear(self) -> None:
        self._frames: list[tuple[int, str | int, int, int]] = []  # index, key, width, height; one entry a person
        self._ids: list[int | None] = []
        self._persons: list[int] = []
        self._numbers: list[NDArray[np.float32]] = []

    def add(self, result: FrameResult) -> None:
        if not result.people:
            return
        self._frames += [(result.index, result.key, result.width, result.height)] * len(result.people)
        self._ids += ids(result.people)
        self._persons += range(len(result.people))
        self._numbers.append(numbers(result.people, self._subject))
        if len(self._ids) >= _ROWS:
            self._flush()

    def finish(self, summary: Mapping[str, Any]) -> None:
        self._flush()
        self._parquet.add_key_value_metadata({"posert.summary": json.dumps(summary)})
        self._parquet.close()

    def close(self) -> None:
        """Let go of a file that was not finished: pyarrow would do it when the file is gone."""
        if self._parquet.is_open:
            with contextlib.suppress(Exception):
                self._parquet.close()

    def _flush(self) -> None:
        """Write the pending people as one group of rows; where a group ends depends on the people alone."""
        import pyarrow as pa

        if not self._ids:
            return
        index, key, width, height = zip(*self._frames, strict=True)
        files = [writable(str(name)) for name in key] if self._subject.keys else [None] * len(key)
        sources = [writable(self._subject.source)] * len(key)
        named: list[Any] = [sources, files, index, self._persons, self._ids, width, height]
        table = np.ascontiguousarray(np.concatenate(self._numbers).T)
        arrays = [
            # from_pandas: NaN is a number that is not known, and becomes null
            pa.array(values, field.type, from_pandas=True)
            for field, values in zip(self._schema, [*named, *table], strict=True)
        ]
        self._parquet.write_table(pa.Table.from_arrays(arrays, schema=self._schema), row_group_size=len(key))
        self._clear()


def _schema(subject: Subject) -> pyarrow.Schema:
    import pyarrow as pa

    names = pa.dictionary(pa.int32(), pa.string())
    fixed = {"source": names, "file": names, "frame": pa.int64(), "person": pa.int32(), "id": pa.int64()}
    fixed |= {"width": pa.int32(), "height": pa.int32()}
    floats = dict.fromkeys(number_columns(subject), pa.float32())
    fields = []
    for name, kind in (fixed | floats).items():
        joint = "confidence of the network in the joint" if name.endswith("_score") else _PIXELS
        unit = _UNITS.get(name, joint if name in floats else "")
        fields.append(pa.field(name, kind, metadata={"unit": unit} if unit else None))
    contract = subject.contract.to_json()
    kept = {name: contract[name] for name in ("dataset", "keypoints", "flip_pairs", "skeleton", "sigmas")}
    about = {
        "schema": SCHEMA,
        "posert": _version(),
        "source": subject.source,
        **subject.facts,
        "subject": subject.contract.subject[0],
        "contract": kept,
    }
    return pa.schema(fields, metadata={"posert": json.dumps(about)})


def _version() -> str | None:
    try:
        return metadata.version("posert")
    except metadata.PackageNotFoundError:  # a checkout on the path, not installed
        return None


@contextlib.contextmanager
def _open(path: Path, subject: Subject) -> Iterator[Writer]:
    try:
        import pyarrow.parquet  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name not in ("pyarrow", "pyarrow.parquet"):
            raise
        raise PosertError(
            f'{path}: Parquet files need the package pyarrow, which is not installed: pip install "posert[parquet]"'
        ) from error
    with atomic_write(path) as file:
        writer = _ParquetWriter(file, subject)
        try:
            yield writer
        finally:
            writer.close()


FORMAT = Format("parquet", ".parquet", 'the same table for large data; pip install "posert[parquet]"', _open)
