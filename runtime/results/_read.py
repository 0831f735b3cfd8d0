"""Read results of Parquet files back as arrays, in batches."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..bundle.schema import check_shape
from ..errors import InputError, PosertError
from ..pose.keypoints import BOX_COLUMNS, Keypoints, joint_columns
from ..system.json_text import parse_json
from ..system.sealed_lines import crc32, read_lines
from ..system.storage import Storage, is_url

if TYPE_CHECKING:
    import pyarrow


_PEOPLE, _JOURNAL = "people", "journal.jsonl"  # in the output of `posert annotate`
_ABOUT = {"contract": {"keypoints": [str], "*": object}, "subject?": str, "*": object}  # older files have no subject


@dataclass(frozen=True)
class Batch:
    """N people, who may be of several frames and sources.

    Attributes:
        source: N names of the image, folder or video.
        file: N file names of images; None for a frame of a video.
        frame: `(N,)` int64, position of the frame in its source.
        person: `(N,)` int32, index in the frame.
        size: `(N, 2)` int32, width and height of the frame, px.
        people: the joints. `ids` and `detection_score` are there only if all N people have them, `raw` if the file has
            raw joints beside smoothed ones.
    """

    source: Sequence[str]
    file: Sequence[str | None]
    frame: NDArray[np.int64]
    person: NDArray[np.int32]
    size: NDArray[np.int32]
    people: Keypoints


def read(path: str | os.PathLike[str], rows: int = 65536) -> Iterator[Batch]:
    """People of a Parquet file, of all below a folder in order of their names, or of the output of `posert annotate`.

    Memory holds one batch at a time. In the output of `posert annotate` each file is held against the checksum in the
    journal before it is read.

    Args:
        path: the file, or the folder; or the URL of one, such as s3://bucket/results.
        rows: people of a batch, at most.

    Raises:
        InputError: there is no such file, it is not Parquet, posert did not write it, or it has changed since.
        PosertError: pyarrow is not installed.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError as error:
        raise PosertError('reading results needs the package pyarrow: pip install "posert[parquet]"') from error
    found = _remote(os.fspath(path)) if is_url(path) else _local(Path(path))
    for name, opened in found:
        try:
            with opened as source, ParquetFile(source, page_checksum_verification=True) as file:
                about = read_about(name, file.schema_arrow.metadata)
                names, subject = tuple(about["contract"]["keypoints"]), about.get("subject", "person")
                for batch in file.iter_batches(batch_size=rows):
                    yield _batch(batch, names, subject)
        except (OSError, ArrowException, LookupError, ValueError, TypeError) as error:
            raise InputError(f"{name}: cannot be read as results in Parquet ({error})") from error


Opened = contextlib.AbstractContextManager[Any]


def _local(path: Path) -> Iterator[tuple[str, Opened]]:
    """Names of the files, and what opens them."""
    if (path / _PEOPLE).is_dir():  # beside it is the table of frames
        path = path / _PEOPLE
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path}: no .parquet file in this folder")
    journal = path.with_name(_JOURNAL)
    sums = _sums(journal) if path.name == _PEOPLE else {}
    for file in files:
        try:
            # `posert annotate --retry-failed` may have written it again since the journal was read
            if not _is_as_told(file, sums) and not _is_as_told(file, _sums(journal)):
                raise InputError(f"{file}: is not as it was written; remove it and annotate again")
        except OSError as error:
            raise InputError(f"{file}: cannot be read ({error})") from error
        yield str(file), _file(file)


def _sums(journal: Path) -> dict[str, int]:
    """CRC-32 of the tables of people by name, as the journal of `posert annotate` tells."""
    found = {}
    try:
        for record in read_lines(journal) if journal.is_file() else ():
            match record:
                case {"done": True, "shard": int(number), "crc32": [_, int(sum_)]}:
                    found[f"{number:08d}.parquet"] = sum_
    except OSError as error:
        raise InputError(f"{journal}: cannot be read ({error})") from error
    return found


def _is_as_told(file: Path, sums: Mapping[str, int]) -> bool:
    """Whether a file has the sum that is told of it, if one is. Pages have sums of their own, their headers do not."""
    if file.name not in sums:
        return True
    with file.open("rb") as opened:
        return crc32(opened) == sums[file.name]


@contextlib.contextmanager
def _file(path: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as file:  # pyarrow takes no name that is not UTF-8
        yield file


def _remote(url: str) -> Iterator[tuple[str, Opened]]:
    if url.lower().endswith(".parquet"):
        url, _, name = url.rpartition("/")
        names = [name]
    else:
        names = sorted(name for name in Storage(url).sizes() if name.endswith(".parquet"))
        names = [name for name in names if name.startswith("people/")] or names
    if not names:
        raise InputError(f"{url}: no .parquet file in this folder")
    storage = Storage(url)
    yield from ((f"{url}/{name}", storage.opened(name)) for name in names)


def read_about(file: str, metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    """What a file of results says of itself, from the metadata of its schema. Raises InputError: nothing."""
    try:
        about = parse_json((metadata or {})[b"posert"])
        check_shape(about, _ABOUT, "what it says of itself")
    except KeyError as error:
        expected = "expected what `posert run --output NAME.parquet` writes"
        raise InputError(f"{file}: not written by posert; {expected}") from error
    except ValueError as error:
        raise InputError(f"{file}: is damaged: {error}") from error
    return dict(about)


def _batch(rows: pyarrow.RecordBatch, names: tuple[str, ...], subject: str) -> Batch:
    def column(name: str) -> NDArray[Any]:
        return np.asarray(rows.column(name).to_numpy(zero_copy_only=False))

    def known(name: str) -> NDArray[Any] | None:
        return None if rows.column(name).null_count else column(name)

    smoothed = joint_columns(names, raw=True)[-1] in rows.schema.names
    columns = np.stack([column(name) for name in joint_columns(names, smoothed)], axis=1)
    joints = columns[:, : 3 * len(names)].reshape(len(rows), len(names), 3)
    raw = columns[:, 3 * len(names) :].reshape(len(rows), len(names), 2) if smoothed else None
    boxes = np.stack([column(name) for name in BOX_COLUMNS], axis=1)
    known_too = known("id"), known("detection_score")
    people = Keypoints(joints[..., :2], joints[..., 2], boxes, names, *known_too, raw, subject)
    size = np.stack([column("width"), column("height")], axis=1)
    source, file = rows.column("source").to_pylist(), rows.column("file").to_pylist()
    return Batch(source, file, column("frame"), column("person"), size, people)
