"""What holds of every format, and how one is chosen."""

from __future__ import annotations

import gc
import json
import os
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from posert.runtime.errors import CatalogError, InputError
from posert.runtime.results import FORMATS, Format, FrameResult, format_of, formats, read
from posert.runtime.system import files

NAMES = FORMATS.names()


@pytest.fixture(autouse=True)
def installed(request: pytest.FixtureRequest) -> None:
    if "parquet" in request.node.name:
        pytest.importorskip("pyarrow")


@pytest.mark.parametrize("name", NAMES)
class TestEveryFormat:
    def test_the_spec(self, name: str) -> None:
        found = FORMATS.load(name)
        assert found.name == name and found.ending.startswith(".") and found.ending == found.ending.lower()
        assert found.summary and not found.summary.endswith(".")
        assert [one.name for one in formats() if one.ending == found.ending] == [name]
        assert format_of(Path(f"a/B{found.ending.upper()}")) == found

    @pytest.mark.parametrize("kind", ["VIDEO", "IMAGES"])
    def test_it_is_complete_when_it_has_its_name(self, name: str, kind: str, tmp_path: Path, make: Any) -> None:
        path = tmp_path / "new" / f"out{FORMATS.load(name).ending}"
        with FORMATS.load(name).open(path, getattr(make, kind)) as writer:
            for frame in make.results(getattr(make, kind)):
                writer.add(frame)
                assert not path.exists()
            writer.finish(make.SUMMARY)
        assert [p.name for p in path.parent.iterdir()] == [path.name]
        first = {p.relative_to(path): p.read_bytes() for p in (path.rglob("*") if path.is_dir() else [path])}
        make.write(name, path, getattr(make, kind))
        again = {p.relative_to(path): p.read_bytes() for p in (path.rglob("*") if path.is_dir() else [path])}
        assert first == again and first

    def test_a_file_name_that_is_not_utf8(self, name: str, tmp_path: Path, make: Any) -> None:
        subject = replace(make.IMAGES, source="pictures\udcfe", keys=tuple(f"a\udcff{i}.png" for i in range(5)))
        path = tmp_path / f"out{FORMATS.load(name).ending}"
        make.write(name, path, subject)
        written = [p for p in (path.rglob("*") if path.is_dir() else [path]) if p.is_file()]
        assert written
        for file in written:
            if file.suffix == ".csv":
                assert r"a\udcff0.png" in file.read_text(encoding="utf-8")
            elif file.suffix == ".parquet":
                assert {name for batch in read(file) for name in batch.file} >= {r"a\udcff0.png", r"a\udcff4.png"}
            else:
                json.loads(file.read_text(encoding="utf-8"))

    def test_nothing_remains_of_a_run_that_ended_by_an_exception(self, name: str, tmp_path: Path, make: Any) -> None:
        path = tmp_path / f"out{FORMATS.load(name).ending}"
        with pytest.raises(KeyboardInterrupt), FORMATS.load(name).open(path, make.VIDEO) as writer:
            writer.add(make.results(make.VIDEO)[0])
            raise KeyboardInterrupt
        assert list(tmp_path.iterdir()) == []

    def test_a_run_without_people(self, name: str, tmp_path: Path, make: Any) -> None:
        path = tmp_path / f"out{FORMATS.load(name).ending}"
        make.write(name, path, make.VIDEO, make.results(make.VIDEO, (0, None, 0)))
        assert path.exists()

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full is Linux's /dev/full")
    def test_a_full_disk_is_told_and_nothing_remains(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any
    ) -> None:
        def write_bytes(path: Path, data: bytes) -> int:
            with open("/dev/full", "wb") as file:
                return file.write(data)

        monkeypatch.setattr(files, "_open_new", lambda name, flags: os.open("/dev/full", os.O_WRONLY))
        monkeypatch.setattr(Path, "write_bytes", write_bytes)
        with pytest.raises(InputError, match="out.*the disk is full"):
            make.write(
                name, tmp_path / f"out{FORMATS.load(name).ending}", make.VIDEO, make.results(make.VIDEO, (3,) * 400)
            )
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_cannot_be_written_is_told(self, name: str, tmp_path: Path, make: Any) -> None:
        (tmp_path / "file").write_text("")
        with (
            pytest.raises(InputError, match="cannot write"),
            FORMATS.load(name).open(tmp_path / "file" / f"out{FORMATS.load(name).ending}", make.VIDEO),
        ):
            pass

    def test_memory_does_not_grow_with_the_frames(self, name: str, tmp_path: Path, make: Any) -> None:
        """A frame of 4 people has 1 kB of joints, and more as text or as Python's numbers."""
        frame = make.people(4, make.VIDEO.contract.keypoints)
        count = 20_000 if name == "parquet" else 600
        make.write(name, tmp_path / f"first{FORMATS.load(name).ending}", make.VIDEO)  # what is imported at first use
        with FORMATS.load(name).open(tmp_path / f"out{FORMATS.load(name).ending}", make.VIDEO) as writer:
            gc.collect()  # what other tests left would be let go of meanwhile, by finalizers that take memory
            tracemalloc.start()
            try:
                for index in range(count):
                    writer.add(FrameResult(index, index, frame, 640, 480))
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            writer.finish({})
        # Parquet holds one group of 8192 rows: 1.9 MB of joints, twice while it is turned into columns.
        assert peak < (12e6 if name == "parquet" else 0.5e6)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a.json", "json"),
        ("a.coco.json", "coco"),
        ("A.COCO.JSON", "coco"),
        ("coco.json", "json"),
        ("a.csv", "csv"),
        ("a.parquet", "parquet"),
        ("cam1.openpose", "openpose"),
        ("a.mp4", None),
        ("folder", None),
        ("a.json.gz", None),
    ],
)
def test_the_ending_chooses_the_format(path: str, name: str | None) -> None:
    found = format_of(Path("some.csv") / path)
    assert (found and found.name) == name


def test_an_unknown_format_is_named_with_the_known_ones() -> None:
    with pytest.raises(CatalogError, match="unknown results format 'parket'. Did you mean parquet"):
        FORMATS.load("parket")


LINES = """
import contextlib, json
from posert.runtime.results import Format, Writer
from posert.runtime.system.files import atomic_write

class Lines(Writer):
    def __init__(self, file):
        self.file = file
    def add(self, result):
        people = None if result.people is None else result.people.to_json()
        self.file.write((json.dumps({"frame": result.index, "people": people}) + "\\n").encode())
    def finish(self, summary):
        pass

@contextlib.contextmanager
def open_lines(path, subject):
    with atomic_write(path) as file:
        yield Lines(file)

FORMAT = Format("lines", ".lines", "a line of JSON per frame", open_lines)
"""


def test_a_format_of_another_package(install_plugin: Callable[..., Path], tmp_path: Path, make: Any) -> None:
    assert format_of(tmp_path / "a.lines") is None
    install_plugin("their-lines", LINES, "posert.results", lines="their_lines:FORMAT")
    found = format_of(tmp_path / "a.lines")
    assert isinstance(found, Format) and found.name == "lines"
    make.write("lines", tmp_path / "a.lines", make.VIDEO)
    assert (tmp_path / "a.lines").read_text().count("\n") == 5
