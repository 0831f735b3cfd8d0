"""Lines behind their checksum."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posert.runtime.system.sealed_lines import crc32, line_of, parse, read_lines


@given(st.dictionaries(st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5)))
def test_any_object_survives_its_line(record: dict[str, object]) -> None:
    line = line_of(record)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert parse(line) == record


@pytest.mark.parametrize("line", [b"", b"\n", b"00000000 \n", b"deadbeef {}\n", b"{}\n", line_of({})[:-2] + b"]\n"])
def test_a_damaged_line_is_none(line: bytes) -> None:
    assert parse(line) is None


def test_damaged_lines_of_a_file_are_none(tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(line_of({"a": 1}) + b"?\n" + line_of({"b": 2}) + line_of({})[:-1])
    assert list(read_lines(tmp_path / "lines")) == [{"a": 1}, None, {"b": 2}, {}]


def test_the_sum_of_more_than_one_block(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    (tmp_path / "data").write_bytes(data)
    with (tmp_path / "data").open("rb") as file:
        assert crc32(file) == zlib.crc32(data)
