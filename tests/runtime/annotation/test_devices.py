"""What `--devices` means."""

from __future__ import annotations

import pytest

from posert.runtime.annotation import devices as module
from posert.runtime.annotation.devices import Device, parse, split
from posert.runtime.errors import InputError


@pytest.fixture(autouse=True)
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "processors", lambda: list(range(8)))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cpu:0", [("cpu", (0,))]),
        ("cpu:0,1", [("cpu", (0,)), ("cpu", (1,))]),
        ("cpu:0-3,6-7", [("cpu", (0, 1, 2, 3)), ("cpu", (6, 7))]),
        ("cuda:0,2", [("cuda", (0,)), ("cuda", (2,))]),
    ],
)
def test_devices(text: str, found: list[tuple[str, tuple[int, ...]]]) -> None:
    devices = parse(text)
    assert [(d.kind, d.numbers) for d in devices] == found
    kind = text.partition(":")[0]
    assert ",".join(map(str, devices)).replace(f",{kind}:", ",") == text


@pytest.mark.parametrize("text", ["", "cpu", "gpu:0", "cpu:", "cpu:3-1", "cpu:x", "cuda:0-1", "cpu:0,", "cpu:-1"])
def test_what_is_expected_is_told(text: str) -> None:
    with pytest.raises(InputError, match="expected auto, or groups"):
        parse(text)


def test_processors_are_there_and_used_once() -> None:
    with pytest.raises(InputError, match="may use the processors 0,1,2,3,4,5,6,7, not 8"):
        parse("cpu:7-8")
    with pytest.raises(InputError, match="twice"):
        parse("cpu:0-3,3")


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 64])
def test_auto_takes_every_processor_once(count: int) -> None:
    groups = split(range(count), 8)
    assert [n for group in groups for n in group] == list(range(count))
    assert len(groups) == min(count, 8)
    assert max(map(len, groups)) - min(map(len, groups)) <= 1
    assert str(Device("cpu", groups[0]))
