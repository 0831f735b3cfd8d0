"""Results of `posert bench` that anybody may have written: compared, or refused with the file's name."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from posert.runtime.bench.compare import KIND, SCHEMA, compare, lines, load, to_json
from posert.runtime.bench.stages import END_TO_END
from posert.runtime.errors import InputError

ROUNDS = 24
RESULT: dict[str, Any] = {
    **{"kind": KIND, "schema": SCHEMA, "session": "a", "date": "2026-11-22", "python": "python3"},
    "bundle": {"name": "narrow", "path": "narrow.pose"},
    "machine": {"cpu": {"name": "AMD EPYC"}, "gpu": None},
    "cells": [
        {"backend": "tensorrt", "precision": "fp16", "error": "missing"},
        {
            **{"backend": "openvino", "precision": "fp32", "mode": "latency"},
            "rows": [
                {
                    **{"stage": END_TO_END, "people": 1, "frames": 1},
                    "seconds": [[0.01 + i % 3 / 1000, 0.01] for i in range(ROUNDS)],
                }
            ],
            "launches": [i // 3 for i in range(ROUNDS)],
            "yardstick": [[0.002]] * ROUNDS,
        },
    ],
}
VALUES: tuple[Any, ...] = (None, [], {}, "x", -1, 0, 1e308, [None], True, 2**70, [[]], [[-1.0]], [[0]], [1])


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*place, key))
    elif isinstance(value, list):
        for index, item in enumerate(value[:3]):
            yield from places(item, (*place, index))


def test_a_result_is_compared(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(RESULT))
    a = load(tmp_path / "a.json")
    (verdict,) = compare(a, copy.deepcopy(a))
    assert verdict.ratio.point == pytest.approx(1.0) and verdict.ratio.verdict == "no difference"


@pytest.mark.parametrize("place", [place for place in places(RESULT) if place], ids=str)
def test_any_value_anywhere(tmp_path: Path, place: tuple[Any, ...]) -> None:
    a, path = copy.deepcopy(RESULT), tmp_path / "b.json"
    for value in (*VALUES, "absent"):
        b = copy.deepcopy(RESULT)
        holder = b
        for key in place[:-1]:
            holder = holder[key]
        if value == "absent":
            del holder[place[-1]]
        else:
            holder[place[-1]] = value
        path.write_text(json.dumps(b))
        try:
            read = load(path)
        except InputError as error:
            assert str(path) in str(error)
            continue
        try:
            verdicts = compare(a, read)
        except InputError:
            continue
        assert lines(a, read, verdicts)
        json.dumps(to_json(verdicts))
