"""One file out of shards, and readers of other projects on the folder."""

from __future__ import annotations

import csv
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from posert.runtime.annotation.journal import Journal
from posert.runtime.cli.main import main
from posert.runtime.errors import InputError
from posert.runtime.media.image_file import UNREADABLE
from posert.runtime.results import read
from posert.runtime.system.sealed_lines import line_of, parse


def merge(output: Path, target: Path) -> int:
    return main(["annotate", "--output", str(output), "--merge", str(target)])


@pytest.fixture
def annotated(annotate: Any, sources: Path, tmp_path: Path) -> Path:
    annotate(sources, "--shard-images", 2)
    return tmp_path / "out"


def test_parquet_holds_the_rows_of_the_plan_in_order(annotated: Path, tmp_path: Path) -> None:
    target = tmp_path / "all.parquet"
    assert merge(annotated, target) == 0
    shards = [row for p in sorted((annotated / "people").iterdir()) for row in pq.read_table(p).to_pylist()]
    assert pq.read_table(target).to_pylist() == shards
    assert len(shards) == 14
    first, again = pq.read_schema(annotated / "people" / "00000000.parquet"), pq.read_schema(target)
    assert again.field("nose_x").metadata == first.field("nose_x").metadata
    assert json.loads(again.metadata[b"posert"])["contract"] == json.loads(first.metadata[b"posert"])["contract"]
    np.testing.assert_array_equal(
        np.concatenate([b.people.xy for b in read(target)]), np.concatenate([b.people.xy for b in read(annotated)])
    )
    assert merge(annotated, tmp_path / "again.parquet") == 0
    assert (tmp_path / "again.parquet").read_bytes() == target.read_bytes()


def test_other_formats_name_every_frame(annotated: Path, tmp_path: Path) -> None:
    for ending in (".json", ".coco.json", ".csv"):
        assert merge(annotated, tmp_path / f"all{ending}") == 0
    whole = json.loads((tmp_path / "all.json").read_text())
    names = [
        *(f"images/{i:03d}.png" for i in range(5)),
        *(f"000.tar/{i:03d}.png" for i in range(3)),
        *(f"films/walk_{i:012d}" for i in range(7)),
    ]
    assert [frame["file"] for frame in whole["frames"]] == names
    assert whole["frames"][3] == {"file": "images/003.png", "error": UNREADABLE}
    assert whole["summary"]["people"] == 14
    good = [name for name in names if name != "images/003.png"]
    coco = json.loads((tmp_path / "all.coco.json").read_text())
    assert [record["image_id"] for record in coco] == good  # the numbers at their ends are not their own
    with (tmp_path / "all.csv").open() as file:
        assert [row["file"] for row in csv.DictReader(file)] == good
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_one_video_keeps_its_frame_numbers(annotate: Any, sources: Path, tmp_path: Path) -> None:
    film = sources / "films" / "walk.mp4"
    merged = tmp_path / "walk.coco.json"
    assert annotate(film, "--video-frames", 2, "--merge", merged) == 0
    assert [record["image_id"] for record in json.loads(merged.read_text())] == list(range(7))
    assert merge(tmp_path / "out", tmp_path / "walk.openpose") == 0
    names = sorted(p.name for p in (tmp_path / "walk.openpose").iterdir())
    assert names == [f"walk_{i:012d}_keypoints.json" for i in range(7)]


def test_what_cannot_be_merged(annotated: Path, tmp_path: Path, capsys: Any) -> None:
    assert merge(annotated, tmp_path / "all.txt") == 2
    assert "expected a name that ends in" in capsys.readouterr().err
    assert merge(annotated, annotated / "all.parquet") == 2
    assert "would be read as a part of the results" in capsys.readouterr().err
    assert merge(tmp_path / "in", tmp_path / "all.parquet") == 2
    assert "no annotation" in capsys.readouterr().err
    broken = annotated / "people" / "00000001.parquet"
    size = broken.stat().st_size
    broken.write_bytes(b"x" * size)
    assert merge(annotated, tmp_path / "all.parquet") == 2
    assert "00000001.parquet: is not as it was written" in capsys.readouterr().err
    broken.unlink()
    assert merge(annotated, tmp_path / "all.parquet") == 2
    assert "1 of 5 shards are not done" in capsys.readouterr().err
    assert not (tmp_path / "all.parquet").exists()


def test_columns_that_changed(annotated: Path, tmp_path: Path, capsys: Any) -> None:
    path = annotated / "people" / "00000001.parquet"
    table = pq.read_table(path).drop_columns(["nose_x"])
    pq.write_table(table, path)
    journal = annotated / "journal.jsonl"
    with Journal(journal) as opened:
        record = next(r for r in opened.records() if r["shard"] == 1)
        sizes = [record["bytes"][0], path.stat().st_size]
        opened.add({**record, "bytes": sizes, "crc32": [record["crc32"][0], zlib.crc32(path.read_bytes())]})
    assert merge(annotated, tmp_path / "all.parquet") == 2
    assert "00000001.parquet: its columns are not those of the other shards" in capsys.readouterr().err


def test_failed_shards_are_missing_and_told(annotate: Any, sources: Path, tmp_path: Path, capsys: Any) -> None:
    (sources / "films" / "walk.mp4").write_bytes(b"")
    assert annotate(sources / "films", sources / "000.tar", "--merge", tmp_path / "all.parquet") == 1
    assert "without 1 shards that failed" in capsys.readouterr().err
    assert pq.read_table(tmp_path / "all.parquet").num_rows == 3


def test_json_of_a_merge_alone(annotated: Path, tmp_path: Path, capsys: Any) -> None:
    capsys.readouterr()
    assert main(["annotate", "--output", str(annotated), "--merge", str(tmp_path / "all.csv"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["people"] == 14 and told["merged"] == str(tmp_path / "all.csv") and told["failed"] == 0


@pytest.mark.parametrize("part", ["people", "frames"])
def test_a_byte_that_changed_on_the_disk(annotated: Path, tmp_path: Path, capsys: Any, part: str) -> None:
    path = annotated / part / "00000001.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert merge(annotated, tmp_path / "all.csv") == 2
    assert f"{part}/00000001.parquet: is not as it was written; remove it" in capsys.readouterr().err
    path.unlink()
    assert merge(annotated, tmp_path / "all.csv") == 2
    assert "1 of 5 shards are not done" in capsys.readouterr().err


def test_a_page_that_changed_is_found_by_its_sum(annotated: Path) -> None:
    path = annotated / "people" / "00000001.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 8] ^= 1  # in the data, which come before the description
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"00000001.parquet: cannot be read as results"):
        list(read(path))


def test_a_table_that_was_replaced_is_found_by_the_journal(annotated: Path) -> None:
    """Such as one with a damaged page header, which has no checksum in Parquet."""
    path = annotated / "people" / "00000001.parquet"
    table = pq.read_table(path)
    x = table.schema.get_field_index("nose_x")
    ones = pa.array([1.0] * len(table), pa.float32())
    pq.write_table(table.set_column(x, table.schema.field(x), ones), path)
    assert next(read(path)).people.xy[0, 0, 0] == 1  # one file alone is not held against the journal
    for folder in (annotated, annotated / "people"):
        with pytest.raises(InputError, match=r"00000001.parquet: is not as it was written; remove it"):
            list(read(folder))
    path.unlink()
    assert sum(len(batch.source) for batch in read(annotated)) == 14 - len(table)


def test_read_while_a_shard_is_annotated_again(annotated: Path) -> None:
    path = annotated / "people" / "00000002.parquet"
    batches = read(annotated)
    rows = len(next(batches).source)
    table = pq.read_table(path)
    pq.write_table(table, path, compression="none")
    with Journal(annotated / "journal.jsonl") as opened:
        record = next(r for r in opened.records() if r["shard"] == 2)
        sums = [record["crc32"][0], zlib.crc32(path.read_bytes())]
        opened.add({**record, "bytes": [record["bytes"][0], path.stat().st_size], "crc32": sums})
    assert rows + sum(len(batch.source) for batch in batches) == 14


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("annotation.json", '"annotation": 1', '"annotation": 2', "of schema 2, expected 1"),
        ("annotation.json", '"fingerprint"', '"finger"', "annotation.json: cannot be read"),
        ("annotation.json", '"width": ', '"width": -', "annotation.json: cannot be read"),
        ("annotation.json", "{", "", "annotation.json: cannot be read"),
        ("plan.jsonl", '"number": 1', '"number": "1"', "plan.jsonl: not a plan"),
        ("plan.jsonl", '"kind": "images"', '"kind": "photos"', "plan.jsonl: not a plan"),
        ("plan.jsonl", '"source"', '"source_"', "plan.jsonl: not a plan"),
    ],
)
def test_files_that_say_something_else(
    annotated: Path, tmp_path: Path, capsys: Any, name: str, old: str, new: str, message: str
) -> None:
    text = (annotated / name).read_text()
    assert old in text
    (annotated / name).write_text(text.replace(old, new, 1))
    assert merge(annotated, tmp_path / "all.csv") == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong", [{"shard": "1"}, {"shard": -1}, {"frames": None}, {"failed": [1]}, {"bytes": "x"}, {"done": 1}]
)
def test_a_record_that_tells_something_else_counts_as_damaged(
    annotated: Path, tmp_path: Path, caplog: Any, wrong: dict[str, Any]
) -> None:
    path = annotated / "journal.jsonl"
    records = [parse(line) for line in path.read_bytes().splitlines(keepends=True)]
    at = next(i for i, record in enumerate(records) if record is not None and record["shard"] == 1)
    path.write_bytes(b"".join(line_of({**r, **wrong} if i == at else r) for i, r in enumerate(records) if r))
    assert merge(annotated, tmp_path / "all.csv") == 2
    assert "journal.jsonl: 1 damaged lines; what they told is done again" in caplog.text


def test_a_plan_that_lost_a_line_is_refused(annotated: Path, tmp_path: Path, capsys: Any) -> None:
    """The results of its shard would be missing, and nobody told."""
    plan = annotated / "plan.jsonl"
    lines = plan.read_text().splitlines(keepends=True)
    plan.write_text("".join(lines[:-1]))
    assert merge(annotated, tmp_path / "all.csv") == 2
    assert "plan.jsonl: has 4 shards, and the journal tells of shard 4" in capsys.readouterr().err
