"""JSON as Python's own reader takes it, without what that reader takes in silence or chokes on."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posert.runtime.system.json_text import StrictJsonError, parse_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**200), 10**200) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES, st.booleans(), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]))
def test_what_python_writes_is_read(value: Any, ascii_only: bool, encoding: str) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert parse_json(text.encode(encoding, "surrogatepass" if ascii_only else "replace")) == json.loads(
        text.encode("utf-8", "replace")
    )


@given(st.text(alphabet='[]{}",:\\0123456789abtrue \n'))
def test_what_python_refuses_is_refused(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):
            parse_json(text.encode())
    else:
        try:
            assert parse_json(text.encode()) == expected
        except StrictJsonError as error:
            assert "twice" in str(error)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "b": {"c": 1, "d": 2, "c": 1}}', "an object has the key 'c' twice"),
        ("[" * 101 + "]" * 101, "nested 101 levels deep"),
        ('{"a":' * 100_000, "nested 100000 levels deep"),
        ("[" * 10_000_000, "nested 10000000 levels deep"),
        ('{"a":\n [1, 1' + "0" * 400 + "]}", "a number in line 2 has 300 digits"),
        ("-1" + "0" * 5000, "a number in line 1 has 300 digits"),
    ],
)
def test_what_python_takes_or_chokes_on(text: str, said: str) -> None:
    with pytest.raises(StrictJsonError, match=said):
        parse_json(text.encode())


def test_texts_may_hold_anything() -> None:
    value = {"0" * 5000: "[" * 5000, "rle": 'a"\\' + "0" * 400, "\\": '"'}
    assert parse_json(json.dumps(value).encode()) == value
    deep: Any = []
    for _ in range(99):
        deep = [deep]
    assert parse_json(json.dumps(deep).encode()) == deep


@pytest.mark.parametrize("text", [r'["\ud800"]', r'{"a\uDfff": 1}', r'[["\ude00\ud83d"]]', r'"\\\ud83d"'])
def test_half_of_a_surrogate_pair(text: str) -> None:
    with pytest.raises(StrictJsonError, match="which is no character"):
        parse_json(text.encode())


@pytest.mark.parametrize("value", ["\U0001f600", r"\ud800", "a\udcff.png", "\udc80"])
def test_pairs_are_characters_and_names_of_files_need_not_be_utf8(value: str) -> None:
    assert parse_json(json.dumps([value]).encode()) == [value]


def test_constants_go_to_the_caller() -> None:
    assert parse_json(b"[Infinity]") == [float("inf")]
    assert parse_json(b"[NaN, -Infinity]", constant=lambda name: name) == ["NaN", "-Infinity"]


@pytest.mark.parametrize("text", ['"' + '\\"' * 1_000_000, '"' * 1_000_001, "\\" * 1_000_000])
def test_quotes_without_an_end_are_read_once(text: str) -> None:
    with pytest.raises(ValueError):
        parse_json(text.encode())  # one that tries every quote again takes hours
