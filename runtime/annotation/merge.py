"""One file out of the shards of a folder, in the order of the plan."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..bundle.contract import Contract
from ..errors import InputError
from ..pose.keypoints import Keypoints
from ..results import PARQUET_OPTIONS, Format, FrameResult, Subject, format_of, formats, read, read_about
from ..system.files import atomic_write, check_writable
from ..system.sealed_lines import crc32
from ..system.storage import Storage, is_url
from .folder import FRAMES, JOB, PEOPLE, PLAN
from .job_file import read_job
from .ledger import Ledger
from .output import Output
from .places import open_output
from .plan import Plan
from .shard import Shard

_ROWS = 65536  # of a group, and of a batch that is read


@dataclass(frozen=True)
class Merged:
    """What was merged.

    Attributes:
        shards: with results.
        failed: shards without, whose frames are missing.
        people: rows.
    """

    shards: int
    failed: int
    people: int


def merge(folder: str | os.PathLike[str], target: Path) -> Merged:
    """Write the results of a folder into one file, whose ending says the format. Memory does not grow with them.

    Parquet keeps every column. In the other formats a frame of a video is called VIDEO_000000000012, and an image by
    its path below the folder that all sources are in.

    Raises:
        LockedError: a run uses the folder.
        InputError: no such folder, shards that are not done, results that do not fit together, an unknown ending, or a
            file that cannot be written.
    """
    form = format_of(target)
    if form is None:
        raise InputError(f"{target}: expected a name that ends in {', '.join(one.ending for one in formats())}")
    place = open_output(folder)
    if not place.holds(JOB):
        raise InputError(f"{place.target}: no annotation; expected the --output of posert annotate")
    if Path(place.target).resolve() in target.resolve().parents and form.name == "parquet":
        raise InputError(f"{target}: lies in {folder}, where it would be read as a part of the results; choose another")
    with place.held(lambda text: None), contextlib.closing(Ledger(place)) as ledger:
        plan = Plan(place.state / PLAN)
        ledger.check(plan)
        _, contract = read_job(place)
    if left := ledger.left(plan.shards, retry=False):
        raise InputError(
            f"{place.target}: {len(left)} of {len(plan)} shards are not done, such as {left[0].title}; annotate again"
        )
    done = [shard for shard in plan.shards if ledger.outcomes[shard.number].done]
    if not done:
        raise InputError(f"{place.target}: none of {len(plan)} shards has results")
    check_writable(target)
    _check_sums(place, done, ledger)
    files = [_file(place, PEOPLE, shard) for shard in done]
    if form.name == "parquet":
        people = _merge_tables(files, target)
    else:
        people = _merge_frames(place, done, contract, form, target)
    return Merged(len(done), len(plan) - len(done), people)


def _file(place: Output, part: str, shard: Shard) -> str:
    return f"{place.target}/{part}/{shard.name}.parquet"


def _check_sums(place: Output, shards: Sequence[Shard], ledger: Ledger) -> None:
    """Raise InputError for a file whose bytes are not those that the journal tells of."""
    for shard in shards:
        for part, expected in zip((FRAMES, PEOPLE), ledger.outcomes[shard.number].crc32, strict=False):
            file = _file(place, part, shard)
            try:
                with _source(file) as source:
                    found = crc32(source)
            except OSError as error:
                raise InputError(f"{file}: cannot be read ({error}); remove it and annotate again") from error
            if found != expected:
                raise InputError(f"{file}: is not as it was written; remove it and annotate again")


def _merge_tables(files: Sequence[str], target: Path) -> int:
    """Rows of all files behind each other, in groups whose size does not depend on the shards."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    schema = _schema(files)
    names = {field.name for field in schema if pa.types.is_dictionary(field.type)}
    rows = 0
    with (
        atomic_write(target) as file,
        ParquetWriter(file, schema, **PARQUET_OPTIONS, use_dictionary=[*names]) as out,
    ):
        held: list[pa.Table] = []
        for file_ in files:
            for batch in _batches(file_, schema):
                rows += len(batch)
                held.append(pa.Table.from_batches([batch], schema=schema))
                while sum(map(len, held)) >= _ROWS:
                    together = pa.concat_tables(held)
                    out.write_table(_plain(together.slice(0, _ROWS)), row_group_size=_ROWS)
                    held = [together.slice(_ROWS)]
        rest = pa.concat_tables(held) if held else schema.empty_table()
        if len(rest):
            out.write_table(_plain(rest), row_group_size=_ROWS)
        out.add_key_value_metadata({"posert.summary": json.dumps({"people": rows, "shards": len(files)})})
    return rows


def _plain(table: Any) -> Any:
    """With one dictionary per column and one chunk: what is written then depends on the rows alone."""
    return table.unify_dictionaries().combine_chunks()


def _batches(file: str, schema: Any, columns: Sequence[str] | None = None) -> Iterator[Any]:
    with _opened(file) as opened:
        if not opened.schema_arrow.equals(schema):
            raise InputError(f"{file}: its columns are not those of the other shards; annotate into a new folder")
        yield from opened.iter_batches(batch_size=_ROWS, columns=columns)


@contextlib.contextmanager
def _opened(file: str) -> Iterator[Any]:
    """A Parquet file, whose errors name it."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with _source(file) as source, ParquetFile(source, page_checksum_verification=True) as opened:
            yield opened
    except (OSError, ArrowException) as error:
        raise InputError(f"{file}: cannot be read ({error}); remove it and annotate again") from error


def _source(file: str) -> contextlib.AbstractContextManager[Any]:
    """The bytes of a file."""
    folder, _, name = file.rpartition("/")
    return Storage(folder).opened(name) if is_url(file) else open(file, "rb")


def _schema(files: Sequence[str]) -> Any:
    """Of the first file, without what is true of it alone."""
    with _opened(files[0]) as first:
        schema = first.schema_arrow
    about = read_about(files[0], schema.metadata)
    about["source"] = f"{len(files)} shards"
    return schema.with_metadata({"posert": json.dumps(about)})


def _merge_frames(place: Output, shards: Sequence[Shard], contract: Contract, form: Format, target: Path) -> int:
    """Frame by frame, through the format's own writer."""
    with _opened(_file(place, PEOPLE, shards[0])) as first:
        about = read_about(_file(place, PEOPLE, shards[0]), first.schema_arrow.metadata)
    facts: dict[str, Any] = {name: about[name] for name in ("backend", "precision") if name in about}
    one_video = len({shard.source for shard in shards}) == 1 and shards[0].kind == "video"
    top = _top([os.path.dirname(s.source) if s.kind != "images" else s.source for s in shards])
    keys = [] if one_video else [_key(top, row) for row in _frames(place, shards, ["source", "file", "frame"])]
    subject = Subject(shards[0].source if one_video else top, contract, facts, tuple(keys))
    people = frames = 0
    failed: list[dict[str, Any]] = []
    with form.open(target, subject) as writer:
        for index, (row, found) in enumerate(_joined(place, shards, contract.keypoints)):
            key = row["frame"] if one_video else keys[index]
            error = row["error"] or ""
            if found is None:
                failed.append({"frame" if one_video else "file": key, "error": error})
            people += len(found or ())
            frames += found is not None
            position = row["frame"] if one_video else index
            writer.add(FrameResult(position, key, found, row["width"], row["height"], error))
        writer.finish({"frames": frames, "people": people, "failed": failed})
    return people


def _top(folders: Sequence[str]) -> str:
    """The folder that all are below; empty if there is none, as of a path and a URL."""
    try:
        return os.path.commonpath(folders)
    except ValueError:
        return ""


def _key(top: str, row: Mapping[str, Any]) -> str:
    """What a frame is called beside those of other sources."""
    below = _below(top, row["source"])
    if row["file"] is not None:
        return row["file"] if below == "." else f"{below}/{row['file']}"
    return f"{os.path.splitext(below)[0]}_{row['frame']:012d}"


@functools.lru_cache(maxsize=1)  # the frames of a source follow each other
def _below(top: str, source: str) -> str:
    return os.path.relpath(source, top) if top else source


def _frames(place: Output, shards: Sequence[Shard], columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of the table of frames, with these columns or all."""
    from .frame_table import schema

    for shard in shards:
        for batch in _batches(_file(place, FRAMES, shard), schema(), columns):
            yield from batch.to_pylist()


def _joined(
    place: Output, shards: Sequence[Shard], names: tuple[str, ...]
) -> Iterator[tuple[dict[str, Any], Keypoints | None]]:
    """Every frame with its people; None for one that could not be used."""
    nobody = Keypoints(np.empty((0, len(names), 2), np.float32), *_empty(len(names)), names)
    for shard in shards:
        batches = read(_file(place, PEOPLE, shard))
        batch, at = next(batches, None), 0
        for row in _frames(place, [shard]):
            count = row["people"]
            if not count:
                yield row, None if count is None else nobody
                continue
            parts = []
            while count:
                if batch is None:
                    raise InputError(
                        f"{shard.title}: its two files do not fit together; remove them and annotate again"
                    )
                part = batch.people[at : at + count]
                parts.append(part)
                at, count = at + len(part), count - len(part)
                if at == len(batch.people):
                    batch, at = next(batches, None), 0
            yield row, parts[0] if len(parts) == 1 else _together(parts)


def _together(parts: Sequence[Keypoints]) -> Keypoints:
    """The people of one frame, who were read in two batches."""

    def joined(name: str) -> Any:
        arrays = [vars(part)[name] for part in parts]
        return None if any(array is None for array in arrays) else np.concatenate(arrays)

    columns = {name: joined(name) for name in ("xy", "score", "boxes", "ids", "detection_score")}
    return Keypoints(names=parts[0].names, **columns)


def _empty(joints: int) -> tuple[Any, Any]:
    return np.empty((0, joints), np.float32), np.empty((0, 4), np.float32)
