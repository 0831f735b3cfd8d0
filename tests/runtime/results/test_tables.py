"""CSV and Parquet, each opened by the programs that read such files, and `read`."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posert.runtime.bundle.contract import Contract
from posert.runtime.errors import InputError, PosertError
from posert.runtime.media.box_file import BoxFile
from posert.runtime.pose.keypoints import Keypoints
from posert.runtime.results import FrameResult, Subject, read
from posert.runtime.results.parquet import SCHEMA


def stacked(frames: list[FrameResult], field: str) -> np.ndarray:
    """A field of all people."""
    return np.concatenate([vars(f.people)[field] for f in frames if f.people])


FRAMES = [0, 0, 2, 4, 4, 4]  # of the six people


def smoothed(make: Any) -> tuple[list[FrameResult], Subject]:
    """Frames of a run with smoothing: each joint's raw place is another one."""
    subject = replace(make.VIDEO, smoothed=True)
    frames = [
        replace(f, people=f.people and replace(f.people, raw=f.people.xy + np.float32(0.25) * (1 + f.index)))
        for f in make.results(subject)
    ]
    return frames, subject


class TestCsv:
    def test_python_reads_it(self, tmp_path: Path, make: Any) -> None:
        frames = make.write("csv", tmp_path / "a.csv", make.VIDEO)
        with (tmp_path / "a.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0])[:6] == ["frame", "person", "id", "width", "height", "x1"]
        assert [int(r["frame"]) for r in rows] == FRAMES and [int(r["person"]) for r in rows] == [0, 1, 0, 0, 1, 2]
        assert [int(r["id"]) for r in rows] == stacked(frames, "ids").tolist()
        np.testing.assert_allclose([float(r["nose_x"]) for r in rows], stacked(frames, "xy")[:, 0, 0], atol=5e-5)

    def test_names_of_images_are_kept_whatever_is_in_them(self, tmp_path: Path, make: Any) -> None:
        names = ('comma, "quote".png', "läufer 走.png", "line\nbreak.png")
        subject = Subject("x", make.contract(), keys=names)
        make.write("csv", tmp_path / "a.csv", subject, make.results(subject, (1, 1, 1)))
        with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
            assert [r["file"] for r in csv.DictReader(file)] == list(names)

    def test_raw_joints_stand_beside_smoothed_ones(self, tmp_path: Path, make: Any) -> None:
        frames, subject = smoothed(make)
        make.write("csv", tmp_path / "a.csv", subject, frames)
        with (tmp_path / "a.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        names = subject.contract.keypoints
        for field, infix in (("xy", ""), ("raw", "_raw")):
            found = [[[float(r[f"{name}{infix}_{axis}"]) for axis in "xy"] for name in names] for r in rows]
            np.testing.assert_allclose(found, stacked(frames, field), atol=5e-5)
        make.write("csv", tmp_path / "b.csv", make.VIDEO)
        assert b"_raw_" not in (tmp_path / "b.csv").read_bytes()
        np.testing.assert_allclose(BoxFile(tmp_path / "a.csv").of(4), frames[4].people.boxes, atol=5e-5)  # type: ignore[union-attr]

    @pytest.mark.parametrize("library", ["pandas", "polars", "duckdb"])
    def test_a_library_reads_numbers(self, library: str, tmp_path: Path, make: Any) -> None:
        module = pytest.importorskip(library)
        frames = make.write("csv", tmp_path / "a.csv", make.VIDEO, make.results(make.VIDEO, ids=False, detected=False))
        path = str(tmp_path / "a.csv")
        table = module.read_csv(path).pl() if library == "duckdb" else module.read_csv(path)
        assert table["frame"].to_list() == FRAMES
        np.testing.assert_allclose(table["left_knee_score"].to_numpy(), stacked(frames, "score")[:, 13], atol=5e-5)
        missing = table["id"].isna() if library == "pandas" else table["id"].is_null()
        assert missing.all()

    def test_it_serves_as_boxes(self, tmp_path: Path, make: Any) -> None:
        """`posert run --boxes` takes the people that another run wrote."""
        for kind, key in (("VIDEO", 4), ("IMAGES", "000012.png")):
            frames = make.write("csv", tmp_path / "a.csv", getattr(make, kind))
            np.testing.assert_allclose(BoxFile(tmp_path / "a.csv").of(key), frames[4].people.boxes, atol=5e-5)


class TestParquet:
    @pytest.fixture(autouse=True)
    def pyarrow(self) -> Any:
        return pytest.importorskip("pyarrow.parquet")

    def test_the_schema_tells_what_the_numbers_are(self, tmp_path: Path, make: Any, pyarrow: Any) -> None:
        make.write("parquet", tmp_path / "a.parquet", make.VIDEO)
        file = pyarrow.ParquetFile(tmp_path / "a.parquet")
        about = json.loads(file.schema_arrow.metadata[b"posert"])
        assert about["schema"] == SCHEMA and about["posert"] and about["source"] == "films/walk.mp4"
        assert (about["backend"], about["precision"]) == ("openvino", "int8")
        assert tuple(about["contract"]["keypoints"]) == make.VIDEO.contract.keypoints
        assert [tuple(p) for p in about["contract"]["skeleton"]] == list(make.VIDEO.contract.skeleton)
        assert json.loads(file.metadata.metadata[b"posert.summary"]) == make.SUMMARY
        schema = file.schema_arrow
        types = {name: str(schema.field(name).type) for name in ("frame", "person", "id", "x1", "nose_score")}
        assert types == {"frame": "int64", "person": "int32", "id": "int64", "x1": "float", "nose_score": "float"}
        assert b"px of the frame" in schema.field("nose_x").metadata[b"unit"]
        assert b"network" in schema.field("nose_score").metadata[b"unit"]
        assert b"detector" in schema.field("detection_score").metadata[b"unit"]

    @pytest.mark.parametrize("library", ["pandas", "polars", "duckdb"])
    def test_a_library_reads_it(self, library: str, tmp_path: Path, make: Any) -> None:
        module = pytest.importorskip(library)
        frames = make.write("parquet", tmp_path / "a.parquet", make.IMAGES)
        path = str(tmp_path / "a.parquet")
        table = module.read_parquet(path).pl() if library == "duckdb" else module.read_parquet(path)
        assert table["frame"].to_list() == FRAMES
        assert table["file"].to_list() == [f"{i:06d}.png" for i in (7, 7, 9, 12, 12, 12)]
        assert table["id"].to_list() == stacked(frames, "ids").tolist()
        np.testing.assert_array_equal(table["right_ankle_y"].to_numpy(), stacked(frames, "xy")[:, 16, 1])
        np.testing.assert_array_equal(table["detection_score"].to_numpy(), stacked(frames, "detection_score"))

    def test_sql_over_the_files_of_many_sources(self, tmp_path: Path, make: Any) -> None:
        duckdb = pytest.importorskip("duckdb")
        for i in range(3):
            make.write("parquet", tmp_path / f"{i}.parquet", Subject(f"v{i}.mp4", make.contract()))
        make.write("parquet", tmp_path / "images.parquet", make.IMAGES)
        found = duckdb.sql(f"select source, count(*), count(file) from '{tmp_path}/*.parquet' group by 1 order by 1")
        assert found.fetchall() == [("pictures", 6, 6), *((f"v{i}.mp4", 6, 0) for i in range(3))]

    @pytest.mark.parametrize("known", [True, False])
    def test_what_is_read_is_what_was_written(self, known: bool, tmp_path: Path, make: Any) -> None:
        frames = make.results(make.IMAGES, ids=known, detected=known)
        make.write("parquet", tmp_path / "a.parquet", make.IMAGES, frames)
        (batch,) = read(tmp_path / "a.parquet")
        assert batch.frame.tolist() == FRAMES and batch.person.tolist() == [0, 1, 0, 0, 1, 2]
        assert set(batch.source) == {"pictures"} and batch.file[0] == "000007.png"
        assert batch.size.tolist() == [[640, 480]] * 6
        assert batch.people.names == make.IMAGES.contract.keypoints
        for field in ("xy", "score", "boxes", *(("ids", "detection_score") if known else ())):
            found = vars(batch.people)[field]
            np.testing.assert_array_equal(found, stacked(frames, field))
            assert found.dtype == stacked(frames, field).dtype
        if not known:
            assert batch.people.ids is batch.people.detection_score is None

    def test_raw_joints_are_read_beside_smoothed_ones(self, tmp_path: Path, make: Any, pyarrow: Any) -> None:
        frames, subject = smoothed(make)
        make.write("parquet", tmp_path / "a.parquet", subject, frames)
        (batch,) = read(tmp_path / "a.parquet")
        for field in ("xy", "raw", "score"):
            np.testing.assert_array_equal(vars(batch.people)[field], stacked(frames, field))
        schema = pyarrow.ParquetFile(tmp_path / "a.parquet").schema_arrow
        assert b"px of the frame" in schema.field("nose_raw_x").metadata[b"unit"]
        make.write("parquet", tmp_path / "b.parquet", make.VIDEO)
        (batch,) = read(tmp_path / "b.parquet")
        assert batch.people.raw is None

    def test_what_they_show_is_read(self, tmp_path: Path, make: Any) -> None:
        odd = make.contract(dataset="mouse")
        make.write("parquet", tmp_path / "a.parquet", Subject("v.mp4", odd))
        make.write("parquet", tmp_path / "b.parquet", make.VIDEO)
        assert [batch.people.subject for batch in read(tmp_path)] == ["instance", "person"]

    def test_a_folder_is_read_in_batches(self, tmp_path: Path, make: Any) -> None:
        for name in ("b/2", "a/1"):
            subject = Subject(f"{name}.mp4", make.contract())
            make.write("parquet", tmp_path / f"{name}.parquet", subject, make.results(subject, (3,) * 4))
        batches = list(read(tmp_path, rows=5))
        assert [len(b.people) for b in batches] == [5, 5, 2, 5, 5, 2]
        assert [b.source[0] for b in batches] == ["a/1.mp4"] * 3 + ["b/2.mp4"] * 3
        assert batches[0].file == [None] * 5

    def test_where_groups_end_depends_on_the_people_alone(self, tmp_path: Path, make: Any, pyarrow: Any) -> None:
        one = make.people(3, make.VIDEO.contract.keypoints)
        frames = [FrameResult(i, i, one, 640, 480) for i in range(3000)]
        make.write("parquet", tmp_path / "a.parquet", make.VIDEO, frames)
        file = pyarrow.ParquetFile(tmp_path / "a.parquet")
        groups = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
        assert groups == [8193, 807]  # a frame is not cut: 2731 frames of 3
        assert sum(len(b.people) for b in read(tmp_path / "a.parquet")) == 9000

    def test_a_joint_without_a_place_is_null(self, tmp_path: Path, make: Any, pyarrow: Any) -> None:
        people: Keypoints = make.people(2, make.VIDEO.contract.keypoints)
        people.xy[0, 3] = np.nan
        make.write("parquet", tmp_path / "a.parquet", make.VIDEO, [FrameResult(0, 0, people, 640, 480)])
        assert pyarrow.read_table(tmp_path / "a.parquet")["left_ear_x"].null_count == 1
        (batch,) = read(tmp_path / "a.parquet")
        np.testing.assert_array_equal(batch.people.xy, people.xy)

    def test_other_files_are_refused(self, tmp_path: Path, pyarrow: Any) -> None:
        import pyarrow as pa

        pyarrow.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
        (tmp_path / "text.parquet").write_text("words")
        (tmp_path / "empty").mkdir()
        cases = {
            "other.parquet": "not written by posert",
            "text.parquet": "cannot be read",
            "none.parquet": "cannot be",
        }
        for name, message in {**cases, "empty": "no .parquet file"}.items():
            with pytest.raises(InputError, match=message):
                list(read(tmp_path / name))


def test_a_missing_pyarrow_is_named(tmp_path: Path, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(PosertError, match=r'pip install "posert\[parquet\]"'):
        make.write("parquet", tmp_path / "a.parquet", make.VIDEO)
    with pytest.raises(PosertError, match=r'pip install "posert\[parquet\]"'):
        list(read(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["csv", "parquet"])
def test_joints_with_one_name_are_refused(name: str, tmp_path: Path, make: Any) -> None:
    if name == "parquet":
        pytest.importorskip("pyarrow")
    odd: Contract = make.contract(keypoints=("a", "a"), flip_pairs=(), skeleton=(), sigmas=())
    with pytest.raises(InputError, match="two columns 'a_x'"):
        make.write(name, tmp_path / f"a.{name}", Subject("v.mp4", odd))
    assert list(tmp_path.iterdir()) == []
